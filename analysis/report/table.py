"""The two tables of the results: one row a setting, which is the answer, and one row a run.

summary_table.png shows the first. A value is marked where the data decide that it is the best.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.findings.facts import Comparison, Contrast, Row, Standing
from analysis.findings.statistics import Interval
from analysis.findings.units import SECONDS_PER_MINUTE
from analysis.reading.runs import Run
from analysis.report.charts import name_tokenizers
from analysis.report.document import Table
from analysis.words import texts
from analysis.words.language import WORDS
from analysis.words.numbers import number
from analysis.words.texts import Label, Language
from batchopt.record.metrics import GIB
from batchopt.record.statuses import Status


@dataclass(frozen=True, slots=True)
class Column:
    """A measured column of the runs; the values are multiplied by `scale`."""

    name: str
    heading: Label
    scale: float = 1


MEASURED = (
    Column("peak_memory_gib", texts.HEAD_PEAK_MEMORY),
    Column("mean_memory_gib", texts.HEAD_MEAN_MEMORY),
    Column("peak_allocated_gib", texts.HEAD_PEAK_ALLOCATED),
    Column("steps_per_second", texts.HEAD_STEPS),
    Column("tokens_per_second", texts.HEAD_TOKENS),
    Column("padding_fraction", texts.HEAD_PADDING, 100),
    Column("train_time_min", texts.HEAD_TRAIN_TIME),
    Column("total_time_min", texts.HEAD_TOTAL_TIME),
    Column("eval_loss", texts.HEAD_EVAL_LOSS),
    Column("best_rouge_f1", texts.HEAD_BEST_ROUGE),
    Column("time_to_target_min", texts.HEAD_TO_TARGET),
    Column("rouge_gain_per_min", texts.HEAD_GAIN),
    Column("rouge_per_gib", texts.HEAD_PER_GIB),
    Column("energy_wh", texts.HEAD_ENERGY),
    Column("mfu", texts.HEAD_MFU, 100),
)

WORDS_FIRST = 3
"""The leading columns of the runs, which name a run: setting, seed, status."""


def build_settings(comparison: Comparison, tokenizer: str, language: Language) -> Table:
    """Makes the table with one row a setting: means, intervals, and changes against the baseline.

    A column that no setting has a value of is left out.
    """
    rows = comparison.rows
    baseline = comparison.baseline or ""
    full = next((row.full for row in rows if row.full), None)
    marked = {
        key: comparison.finding(key).choice
        for key in ("fastest", "least_memory")
        if comparison.finding(key).certainty == "yes"
    }
    columns: list[tuple[str, list[str], str | None]] = [
        (texts.HEAD_SETTING.say(language), [row.label for row in rows], None),
        (texts.HEAD_RUNS.say(language), [_runs(row, language) for row in rows], None),
        (texts.HEAD_STEPS.say(language), [_mean(row.speed) for row in rows], marked.get("fastest")),
        (
            texts.HEAD_SPEED_CHANGE.say(language, baseline=baseline),
            [_change(row, row.speed_change, comparison.baseline, language) for row in rows],
            None,
        ),
        (
            texts.HEAD_PEAK_MEMORY.say(language),
            [_mean(row.memory) for row in rows],
            marked.get("least_memory"),
        ),
        (
            texts.HEAD_MEMORY_CHANGE.say(language, baseline=baseline),
            [_change(row, row.memory_change, comparison.baseline, language) for row in rows],
            None,
        ),
        (
            texts.HEAD_BEST_ROUGE.say(language, tokenizer=tokenizer),
            [_mean(row.quality) for row in rows],
            None,
        ),
        (
            texts.HEAD_TO_TARGET.say(language),
            [
                ""
                if row.time_to_target_s is None
                else number(row.time_to_target_s / SECONDS_PER_MINUTE)
                for row in rows
            ],
            None,
        ),
    ]
    if full is not None:
        columns += [
            (
                texts.HEAD_FULL_TIME.say(language, steps=f"{full.steps:,}"),
                [_full_time(row, language) for row in rows],
                None,
            ),
            (
                texts.HEAD_FULL_ENERGY.say(language),
                [_known(row.full.energy_wh if row.full else None) for row in rows],
                None,
            ),
            (
                texts.HEAD_HEADROOM.say(language),
                [_known(row.full.headroom_gib if row.full else None) for row in rows],
                None,
            ),
        ]
    shown = [one for place, one in enumerate(columns) if place < 2 or any(one[1])]
    return Table(
        headings=tuple(heading for heading, _, _ in shown),
        rows=tuple(zip(*(cells for _, cells, _ in shown), strict=True)),
        best=frozenset(
            (place, column)
            for column, (_, _, best) in enumerate(shown)
            for place, row in enumerate(rows)
            if best is not None and row.label == best
        ),
        muted=frozenset(place for place, row in enumerate(rows) if not row.completed),
        numeric=frozenset(range(2, len(shown))),
        title=WORDS[language].facets(comparison),
        summary=True,
    )


PARTS = ("frozen_weights_bytes", "trained_weights_bytes", "gradients_bytes", "optimizer_bytes")
"""Metrics of what a training keeps in memory; the rest of the peak is activations and caches."""


def build_parts(
    comparisons: Sequence[Comparison], runs: Sequence[Run], language: Language
) -> Table | None:
    """Makes the table of what the memory is made of, one row a setting of each comparison.

    Of the first completed run of a setting: the parts are the same in each. On a GPU they are parts
    of what its allocator gave out, on a CPU of the process.

    Returns:
        None where no run trains an adapter, or nothing was recorded.
    """
    rows = []
    for comparison in comparisons:
        for row in comparison.rows:
            run = next((runs[place] for place in row.places if runs[place].completed), None)
            if run is None or any(run.metrics.get(name) is None for name in PARTS):
                continue
            parts = [float(run.metrics[name]) for name in PARTS]
            allocated = run.metrics.get("peak_allocated_bytes")
            libraries = 0.0 if allocated else float(run.metrics.get("imports_memory_bytes") or 0)
            peak = float(allocated or run.metrics.get("peak_memory_bytes") or math.nan)
            rest = peak - libraries - sum(parts)
            counts = [run.model.get("trainable_parameters"), run.model.get("parameters")]
            rows.append(
                (
                    row.label,
                    *(f"{count:,}" if count else "" for count in counts),
                    *(_known(value / GIB) for value in (*parts, libraries, rest, peak)),
                )
            )
    if not rows or all(run.model.get("adapter", "none") == "none" for run in runs):
        return None
    headings = (texts.HEAD_SETTING, *texts.PART_HEADS)
    return Table(
        headings=tuple(heading.say(language) for heading in headings),
        rows=tuple(rows),
        numeric=frozenset(range(1, len(headings))),
    )


_ENDED = {Status.oom.value: texts.OUT_OF_MEMORY}
"""Statuses that the first table says in words."""


def _runs(row: Row, language: Language) -> str:
    """How many runs completed, and what became of the others."""
    parts = [
        f"{_ENDED.get(status, texts.STATUSES[status]).say(language)} {count}"
        for status, count in row.endings
        if status != Status.completed
    ]
    if row.disturbed:
        parts.append(texts.DISTURBED.say(language, count=row.disturbed))
    # A part is broken only where it would widen its column.
    return "; ".join(
        [str(row.completed), *(one.replace(" ", "\xa0") if len(one) < 18 else one for one in parts)]
    )


def _mean(standing: Standing | None) -> str:
    if standing is None:
        return ""
    interval = standing.interval
    if interval is None:
        return number(standing.mean)
    return f"{number(standing.mean)} ({number(max(0.0, interval.low))}–{number(interval.high)})"


def _change(row: Row, contrast: Contrast | None, baseline: str | None, language: Language) -> str:
    if baseline is not None and row.label == baseline:
        return texts.BASELINE.say(language)
    if contrast is None:
        return ""
    interval = contrast.over_runs or contrast.within_runs
    text = _signed_percent(contrast.estimate)
    if interval is None:
        return f"{text} %"
    return f"{text} % ({_signed_percent(interval.low)} – {_signed_percent(interval.high)})"


def _signed_percent(ratio: float) -> str:
    share = 100 * (ratio - 1)
    text = f"{abs(share):.0f}" if abs(share) >= 10 else f"{abs(share):.1f}"
    return text if float(text) == 0 else f"{'+' if share > 0 else '−'}{text}"


def _full_time(row: Row, language: Language) -> str:
    if row.full is None:
        return ""
    time, say = row.full.train_time_s, WORDS[language].duration
    if isinstance(time, Interval):
        low, high = say(time.low), say(time.high)
        if low.lstrip("0123456789.,") == high.lstrip("0123456789.,"):
            low = re.sub(r"[^0-9.,]", "", low)  # one unit for both
        return f"{say(time.estimate)} ({low} – {high})"
    return say(time)


def _known(value: float | None) -> str:
    return "" if value is None else number(value).replace("-", "−")


def build_runs(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], language: Language = "en"
) -> Table:
    """Makes the table of all runs; columns that nobody measured are left out.

    Line breaks in headings are where a narrow column may break.
    """
    tokenizer = name_tokenizers(runs, language)
    columns: list[tuple[str, list[str]]] = [
        (texts.HEAD_SETTING.say(language), list(labels)),
        (
            texts.HEAD_SEED.say(language),
            ["" if run.seed is None else str(run.seed) for run in runs],
        ),
        (texts.HEAD_STATUS.say(language), [_status(run, language) for run in runs]),
    ]
    for column in MEASURED:
        values = [
            None if pd.isna(value) else float(value) * column.scale for value in frame[column.name]
        ]
        if any(value is not None for value in values):
            columns.append((column.heading.say(language, tokenizer=tokenizer), _write(values)))
    return Table(
        headings=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        muted=frozenset(
            row for row, run in enumerate(runs) if not run.completed or run.timing_untrusted
        ),
        numeric=frozenset({1, *range(WORDS_FIRST, len(columns))}),
        sortable=True,
    )


def _status(run: Run, language: Language) -> str:
    status = texts.STATUSES[run.status].say(language)
    return f"{status}; {texts.UNTRUSTED.say(language)}" if run.timing_untrusted else status


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
