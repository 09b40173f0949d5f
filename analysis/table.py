"""The comparison table: which columns it has, how they are written, what is best in each.

The report and summary_table.png show the same table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.findings import Findings
from analysis.read import Run
from analysis.text import join_words


@dataclass(frozen=True, slots=True)
class Column:
    """A measured column; `better` is 1 for higher, -1 for lower, 0 for neither."""

    name: str
    heading: str
    better: int = 0
    scale: float = 1
    speed: bool = False
    memory: bool = False
    quality: bool = False


MEASURED = (
    Column("peak_memory_gib", "peak memory\n(GiB)", -1, memory=True),
    Column("peak_allocated_gib", "peak allocated\n(GiB)", -1, memory=True),
    Column("steps_per_second", "optimizer\nsteps/s", 1, speed=True),
    Column("tokens_per_second", "tokens/s", 1, speed=True),
    Column("padding_fraction", "padding\n(%)", -1, 100),
    Column("train_time_min", "training\n(min)", -1, speed=True),
    Column("eval_loss", "eval loss\n(nats/token)", -1, quality=True),
    Column("best_rouge_f1", "best ROUGE F1\n{tokenizer}", 1, quality=True),
    Column("time_to_target_min", "to target\n(min)", -1, speed=True, quality=True),
    Column("rouge_gain_per_min", "ROUGE F1 gain\nper min", 1, speed=True, quality=True),
    Column("rouge_per_gib", "ROUGE F1\nper GiB", 1, memory=True, quality=True),
    Column("energy_wh", "energy\n(Wh)", -1, speed=True),
    Column("mfu", "MFU\n(%)", 1, 100, speed=True),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Texts of the cells, row by row, and which of them are the best of their column."""

    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]
    """Row and column of each marked cell."""


def build_table(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], findings: Findings
) -> Table:
    """Makes the table of all runs; columns that nobody measured are left out.

    The best value is marked among comparable runs, where at least two of them have one.
    """
    tokenizer = f"[{name_tokenizers(runs)}]"
    columns: list[tuple[str, list[str], set[int]]] = [
        ("setting", list(labels), set()),
        ("seed", ["" if run.seed is None else str(run.seed) for run in runs], set()),
        ("status", [run.status for run in runs], set()),
    ]
    for column in MEASURED:
        values = [
            None if pd.isna(value) else float(value) * column.scale for value in frame[column.name]
        ]
        if all(value is None for value in values):
            continue
        texts = _write(values)
        blocked = findings.blocks(speed=column.speed, memory=column.memory, quality=column.quality)
        marked = set() if blocked else _best(column, values, texts, findings.comparable)
        columns.append((column.heading.format(tokenizer=tokenizer), texts, marked))
    return Table(
        headings=tuple(heading for heading, _, _ in columns),
        cells=tuple(zip(*(texts for _, texts, _ in columns), strict=True)),
        best=frozenset(
            (row, place) for place, (_, _, marked) in enumerate(columns) for row in marked
        ),
    )


def name_tokenizers(runs: Sequence[Run]) -> str:
    """What ROUGE counted as a word in these runs."""
    names = {run.metrics.get("rouge_tokenizer") for run in runs} - {None}
    return join_words(sorted(map(str, names))) if names else "tokenizer not recorded"


def _write(values: Sequence[float | None]) -> list[str]:
    """Writes a column with one number of decimals: three digits of its largest value."""
    sizes = [abs(value) for value in values if value]
    if all(value is None or value == int(value) for value in values):
        decimals = 0
    else:
        # Two digits of the smallest, so that a small value does not read as zero.
        decimals = max(
            2 - math.floor(math.log10(max(sizes))), 1 - math.floor(math.log10(min(sizes)))
        )
    return ["" if value is None else f"{value:,.{min(max(decimals, 0), 4)}f}" for value in values]


def _best(
    column: Column,
    values: Sequence[float | None],
    texts: Sequence[str],
    comparable: Sequence[bool],
) -> set[int]:
    """The rows with the best value, those that read the same included."""
    ranked = [
        (column.better * value, row)
        for row, (value, fits) in enumerate(zip(values, comparable, strict=True))
        if value is not None and fits
    ]
    if column.better == 0 or len(ranked) < 2:
        return set()
    best = texts[max(ranked)[1]]
    marked = {row for _, row in ranked if texts[row] == best}
    return marked if len(marked) < len(ranked) else set()  # where all are equal, none is best
