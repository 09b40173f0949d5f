"""The comparison table: which columns it has, how they are written, what is best in each.

The report and summary_table.png show the same table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.findings.facts import Findings
from analysis.reading.runs import Run
from analysis.report.charts import name_tokenizers
from analysis.report.document import Table
from analysis.words import texts
from analysis.words.texts import Label, Language


@dataclass(frozen=True, slots=True)
class Column:
    """A measured column; `better` is 1 for higher, -1 for lower, 0 for neither."""

    name: str
    heading: Label
    better: int = 0
    scale: float = 1
    speed: bool = False
    memory: bool = False
    quality: bool = False


MEASURED = (
    Column("peak_memory_gib", texts.HEAD_PEAK_MEMORY, -1, memory=True),
    Column("peak_allocated_gib", texts.HEAD_PEAK_ALLOCATED, -1, memory=True),
    Column("steps_per_second", texts.HEAD_STEPS, 1, speed=True),
    Column("tokens_per_second", texts.HEAD_TOKENS, 1, speed=True),
    Column("padding_fraction", texts.HEAD_PADDING, -1, 100),
    Column("train_time_min", texts.HEAD_TRAIN_TIME, -1, speed=True),
    Column("eval_loss", texts.HEAD_EVAL_LOSS, -1, quality=True),
    Column("best_rouge_f1", texts.HEAD_BEST_ROUGE, 1, quality=True),
    Column("time_to_target_min", texts.HEAD_TO_TARGET, -1, speed=True, quality=True),
    Column("rouge_gain_per_min", texts.HEAD_GAIN, 1, speed=True, quality=True),
    Column("rouge_per_gib", texts.HEAD_PER_GIB, 1, memory=True, quality=True),
    Column("energy_wh", texts.HEAD_ENERGY, -1, speed=True),
    Column("mfu", texts.HEAD_MFU, 1, 100, speed=True),
)

WORDS = 3
"""The leading columns, which name a run: setting, seed, status."""


def build_table(
    runs: Sequence[Run],
    frame: pd.DataFrame,
    labels: Sequence[str],
    findings: Findings,
    language: Language = "en",
) -> Table:
    """Makes the table of all runs; columns that nobody measured are left out.

    The best value is marked among comparable runs, where at least two of them have one. Line
    breaks in headings are where a narrow column may break.
    """
    tokenizer = name_tokenizers(runs, language)
    columns: list[tuple[str, list[str], set[int]]] = [
        (texts.HEAD_SETTING.say(language), list(labels), set()),
        (
            texts.HEAD_SEED.say(language),
            ["" if run.seed is None else str(run.seed) for run in runs],
            set(),
        ),
        (
            texts.HEAD_STATUS.say(language),
            [texts.STATUSES[run.status].say(language) for run in runs],
            set(),
        ),
    ]
    for column in MEASURED:
        values = [
            None if pd.isna(value) else float(value) * column.scale for value in frame[column.name]
        ]
        if all(value is None for value in values):
            continue
        cells = _write(values)
        groups = findings.groups(speed=column.speed, memory=column.memory, quality=column.quality)
        marked = {
            row
            for number in set(groups) - {None}
            for row in _best(column, values, cells, [group == number for group in groups])
        }
        columns.append((column.heading.say(language, tokenizer=tokenizer), cells, marked))
    return Table(
        headings=tuple(heading for heading, _, _ in columns),
        rows=tuple(zip(*(cells for _, cells, _ in columns), strict=True)),
        best=frozenset(
            (row, place) for place, (_, _, marked) in enumerate(columns) for row in marked
        ),
        muted=frozenset(row for row, run in enumerate(runs) if not run.completed),
        numeric=frozenset({1, *range(WORDS, len(columns))}),
        sortable=True,
    )


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
    cells: Sequence[str],
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
    best = cells[max(ranked)[1]]
    marked = {row for _, row in ranked if cells[row] == best}
    return marked if len(marked) < len(ranked) else set()  # where all are equal, none is best
