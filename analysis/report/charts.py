"""The numbers behind every chart, ready to be drawn (figures).

A setting is told by its label beside its point or line; a preset has one colour everywhere, and
settings that share a preset differ in their line. What counts is drawn as the mean of a setting's
runs, with each run faint behind it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, TypeVar

import pandas as pd
import seaborn as sns

from analysis.findings.convergence import TARGET_FRACTION
from analysis.findings.units import BYTES_PER_GIB, SECONDS_PER_MINUTE
from analysis.reading.runs import Run
from analysis.words import texts
from analysis.words.texts import Language
from batchopt.record.statuses import Status

T = TypeVar("T")

MAX_SETTINGS = 30
"""More than this nobody can tell apart in one chart."""

MAX_POINTS = 200
"""Of one line: as many as a column of print can show."""

MAX_CURVES = 10
"""Runs of a setting that are drawn behind its mean: the first ones."""

FEW = 8
"""As many presets have colours that the colour-blind tell apart; more have a scale of colours."""

STEP_PARTS = ("data_wait_s", "forward_s", "backward_s", "optimizer_s")


@dataclass(frozen=True, slots=True)
class Look:
    """How a setting is drawn: a colour as #rrggbb, and which line of the drawer's."""

    colour: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A place, and the ranges round it where there are any."""

    x: float
    y: float
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    faint: bool = False
    """One run of several, behind their mean."""
    hollow: bool = False
    """Its timing is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Series:
    """What one setting has to show; the last point of a chart of points is the mean."""

    name: str
    look: Look
    points: tuple[Point, ...]
    runs: tuple[tuple[tuple[float, float], ...], ...] = ()
    """The course of each run, behind the mean."""
    ends: tuple[tuple[float, float], ...] = ()
    """Where runs ended that did not complete."""
    family: str = ""
    """Settings of one family differ in the batch alone: a line joins their points."""


@dataclass(frozen=True, slots=True)
class XYChart:
    """Points or lines in a plane, the series in the order of the batch."""

    key: str
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    lines: bool = False
    coincide: bool = False
    """Whether the lines may lie on each other, as those of one training do."""
    failed: tuple[str, ...] = ()
    """Settings that ran out of memory and have no place in the plane."""
    level: tuple[float, str] | None = None
    """A horizontal line and its name."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One setting's parts, in the order of the chart's parts."""

    name: str
    look: Look
    values: tuple[float, ...]
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class BarChart:
    """Stacked bars; with one part, in the colours of the presets."""

    key: str
    title: str
    x: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]


Chart = XYChart | BarChart


@dataclass(frozen=True, slots=True)
class Setting:
    """All runs of one setting on one kind of device, in their order."""

    label: str
    name: str
    look: Look
    runs: tuple[Run, ...]
    rows: tuple[Mapping[str, Any], ...]
    """Of the frame, one for each run."""

    @property
    def size(self) -> int:
        """Examples of one micro-batch; 0: not known."""
        return max(run.plan.get("per_device_train_batch_size") or 0 for run in self.runs)

    @property
    def family(self) -> str:
        """What sets it apart beside its batch."""
        return self.name.partition(")")[2]

    def values(self, column: str) -> list[float]:
        """What was measured, of the completed runs where there are some."""
        completed = [
            row for run, row in zip(self.runs, self.rows, strict=True) if run.completed
        ] or self.rows
        return [float(row[column]) for row in completed if not pd.isna(row[column])]


def group_settings(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str]
) -> tuple[Setting, ...]:
    """Gathers the runs of each setting; where devices differ, of each setting and device."""
    devices = {run.environment.get("device_name") for run in runs} - {None}
    members: dict[tuple[str, str], list[int]] = {}
    for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
        device = run.environment.get("device_name")
        name = f"{label} [{device}]" if device and len(devices) > 1 else label
        members.setdefault((label, name), []).append(place)
    # Sorted, so that a preset keeps its colour when runs are left out or planned otherwise.
    sizes = {str(run.preset): run.plan.get("per_device_train_batch_size") or 0 for run in runs}
    presets = sorted(sizes)
    palette = sns.color_palette("colorblind").as_hex()
    if len(presets) > FEW:
        presets = sorted(sizes, key=lambda preset: (sizes[preset], preset))
        palette = sns.color_palette("viridis", len(presets)).as_hex()
    used: dict[str, int] = {}
    records: list[Any] = frame.to_dict("records")
    settings = []
    for (label, name), places in members.items():
        preset = str(runs[places[0]].preset)
        used[preset] = used.get(preset, -1) + 1
        settings.append(
            Setting(
                label=label,
                name=name,
                look=Look(palette[presets.index(preset)], used[preset]),
                runs=tuple(runs[place] for place in places),
                rows=tuple(records[place] for place in places),
            )
        )
    return tuple(sorted(settings, key=lambda one: (one.family, one.size)))


def memory_vs_speed(settings: Sequence[Setting], language: Language) -> XYChart:
    """Draws peak memory against speed."""
    chart = _plane(
        settings,
        language,
        key="memory_vs_speed",
        title=texts.MEMORY_VS_SPEED,
        x=("steps_per_second", texts.SPEED),
        y=("peak_memory_gib", texts.PEAK_MEMORY),
        spread=_speed_quartiles,
    )
    failed = [one.name for one in settings if any(run.status == Status.oom for run in one.runs)]
    return replace(chart, failed=tuple(failed))


def training_curves(
    settings: Sequence[Setting], target: float | None, language: Language
) -> tuple[XYChart, XYChart, XYChart, XYChart]:
    """Draws loss and ROUGE by step, memory by time, and ROUGE by training time."""
    score = _score_label(settings, texts.VALIDATION_ROUGE, language).say(language)
    level = (
        None
        if target is None
        else (target, texts.TARGET.say(language, share=f"{100 * TARGET_FRACTION:.0f}"))
    )
    step, train_time = texts.STEP.say(language), texts.TRAIN_TIME.say(language)

    def lines(key: str, title: texts.Label, x: str, y: str, **options: Any) -> XYChart:
        return XYChart(key, title.say(language), x, y, lines=True, **options)

    return (
        lines(
            "loss",
            texts.LOSS_TITLE,
            step,
            texts.LOSS.say(language),
            series=_curves(settings, "training", "step", "train_loss"),
            coincide=True,
        ),
        lines(
            "rouge",
            texts.ROUGE_TITLE,
            step,
            score,
            series=_curves(settings, "evaluations", "step", "rouge_f1"),
            coincide=True,
            level=level,
        ),
        lines(
            "memory",
            texts.MEMORY_TITLE,
            texts.RUN_TIME.say(language),
            texts.MEMORY.say(language),
            series=tuple(
                _memory_course(one) for one in settings if any(run.memory for run in one.runs)
            ),
        ),
        lines(
            "efficiency",
            texts.EFFICIENCY_TITLE,
            train_time,
            score,
            series=_curves(settings, "evaluations", "train_time_s", "rouge_f1", SECONDS_PER_MINUTE),
            level=level,
        ),
    )


def step_time(settings: Sequence[Setting], language: Language) -> BarChart | None:
    """Draws where the time of a step goes; None where nobody measured it."""
    bars = []
    for setting in settings:
        runs = [
            run
            for run in setting.runs
            if all(run.metrics.get(part) is not None for part in STEP_PARTS)
        ]
        calm = [run for run in runs if not run.timing_untrusted]
        if runs:
            parts = [
                1000 * fmean(float(run.metrics[part]) for run in calm or runs)
                for part in STEP_PARTS
            ]
            bars.append(Bar(setting.name, setting.look, tuple(parts), hollow=not calm))
    if not bars:
        return None
    return BarChart(
        "step_time",
        texts.STEP_TIME_TITLE.say(language),
        texts.STEP_TIME.say(language),
        tuple(texts.PARTS[part].say(language) for part in STEP_PARTS),
        tuple(bars),
    )


def padding(settings: Sequence[Setting], language: Language) -> BarChart | None:
    """Draws how much of the work is padding; None where nobody measured it."""
    bars = [
        Bar(setting.name, setting.look, (100 * fmean(values),))
        for setting in settings
        if (values := setting.values("padding_fraction"))
    ]
    if not bars:
        return None
    title, x = texts.PADDING_TITLE.say(language), texts.PADDING.say(language)
    return BarChart("padding", title, x, (x,), tuple(bars))


def _plane(
    settings: Sequence[Setting],
    language: Language,
    *,
    key: str,
    title: texts.Label,
    x: tuple[str, texts.Label],
    y: tuple[str, texts.Label],
    spread: Callable[[Run], tuple[float, float] | None] = lambda run: None,
) -> XYChart:
    """Draws one column of the frame against another: each run, and each setting's mean.

    Args:
        settings: What to draw.
        language: Of the labels.
        key: Name of the chart.
        title: Title of the chart.
        x: A column and its label.
        y: A column and its label.
        spread: The range along x within one run; None if unknown.
    """
    series = []
    for setting in settings:
        measured = [
            (run, Point(float(row[x[0]]), float(row[y[0]]), hollow=bool(run.timing_untrusted)))
            for run, row in zip(setting.runs, setting.rows, strict=True)
            if run.status != Status.oom and not pd.isna(row[x[0]]) and not pd.isna(row[y[0]])
        ]
        # As in the findings: what was disturbed counts only where there is nothing else.
        completed = [(run, point) for run, point in measured if run.completed]
        trusted = [(run, point) for run, point in completed if not point.hollow]
        counted = trusted or completed or measured
        if not counted:
            continue
        if len(counted) > 1:
            centre = _centre([point for _, point in counted])
        else:
            centre = replace(counted[0][1], x_range=spread(counted[0][0]))
        behind = [
            replace(point, faint=True)
            for run, point in measured
            if len(counted) > 1 or run is not counted[0][0]
        ]
        ended = () if counted[0][0].completed else ((centre.x, centre.y),)
        series.append(
            Series(
                setting.name,
                setting.look,
                (*behind, centre),
                ends=ended,
                family=setting.family,
            )
        )
    return XYChart(key, title.say(language), x[1].say(language), y[1].say(language), tuple(series))


def _centre(points: Sequence[Point]) -> Point:
    """The mean of points and the range that they span."""
    xs, ys = [point.x for point in points], [point.y for point in points]
    return Point(
        fmean(xs),
        fmean(ys),
        (min(xs), max(xs)),
        (min(ys), max(ys)),
        hollow=any(point.hollow for point in points),
    )


def _speed_quartiles(run: Run) -> tuple[float, float] | None:
    """The middle half of a run's speed over its steps, in optimizer steps per second."""
    fast, slow = run.metrics.get("step_time_q1_s"), run.metrics.get("step_time_q3_s")
    return (1 / slow, 1 / fast) if fast and slow else None


def _curves(
    settings: Sequence[Setting], rows: str, x: str, y: str, x_unit: float = 1
) -> tuple[Series, ...]:
    """Draws each setting's mean over its runs, step by step, with their range."""
    series = []
    for setting in settings:
        courses = [
            (run, [(step, at / x_unit, value) for step, at, value in _columns(run, rows, x, y)])
            for run in setting.runs
        ]
        # A run that ended early would bend the mean where it leaves it.
        whole = [course for run, course in courses if run.completed and course]
        calm = [
            course
            for run, course in courses
            if run.completed and course and not run.timing_untrusted
        ]
        by_step: dict[float, list[tuple[float, float]]] = {}
        for course in calm or whole or [course for _, course in courses]:
            for step, at, value in course:
                by_step.setdefault(step, []).append((at, value))
        ends = [
            course[-1][1:]
            for run, course in courses
            if course and run.status not in (Status.completed, Status.running)
        ]
        points = tuple(
            Point(
                fmean(at for at, _ in values),
                fmean(value for _, value in values),
            )
            for _, values in sorted(by_step.items())
        )
        drawn = [course for course in whole if course][:MAX_CURVES] if len(whole) > 1 else []
        if points:
            series.append(
                Series(
                    setting.name,
                    setting.look,
                    _thin_out(points),
                    runs=tuple(
                        tuple((at, value) for _, at, value in _thin_out(tuple(course)))
                        for course in drawn
                    ),
                    ends=tuple(ends),
                )
            )
    return tuple(series)


def _columns(run: Run, rows: str, x: str, y: str) -> Iterable[tuple[float, float, float]]:
    return ((row["step"], row[x], row[y]) for row in getattr(run, rows))


def _memory_course(setting: Setting) -> Series:
    """Draws the run that needed most; of samples too close to draw, the highest."""
    run = max(
        setting.runs, key=lambda run: max((row["memory_bytes"] for row in run.memory), default=0)
    )
    samples = [
        (row["time_s"] / SECONDS_PER_MINUTE, row["memory_bytes"] / BYTES_PER_GIB)
        for row in run.memory
    ]
    size = -(-len(samples) // MAX_POINTS)
    highest = [
        max(samples[start : start + size], key=lambda sample: sample[1])
        for start in range(0, len(samples), size)
    ]
    ended = run.status not in (Status.completed, Status.running)
    return Series(
        setting.name,
        setting.look,
        tuple(Point(*sample) for sample in highest),
        ends=(samples[-1],) if ended else (),
    )


def _thin_out(points: tuple[T, ...]) -> tuple[T, ...]:
    """Keeps so many points that a line still looks the same, the last one among them."""
    step = -(-len(points) // MAX_POINTS)
    return points[::step] if (len(points) - 1) % step == 0 else (*points[::step], points[-1])


def name_tokenizers(runs: Sequence[Run], language: Language = "en") -> str:
    """What ROUGE counted as a word in these runs."""
    names = {run.metrics.get("rouge_tokenizer") for run in runs} - {None}
    return ", ".join(sorted(map(str, names))) or texts.TOKENIZER_UNKNOWN.say(language)


def _score_label(
    settings: Sequence[Setting], label: texts.Label, language: Language
) -> texts.Label:
    tokenizer = name_tokenizers([run for setting in settings for run in setting.runs], language)
    return texts.Label(*(text.format(tokenizer=tokenizer) for text in label))
