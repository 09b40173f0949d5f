"""Turns numbers into decisions, each with the sentence that says why and how sure it is.

Nothing here knows a preset by name. A ranking is made only among completed runs that differ in
nothing but the setting; where that fails, or the values lie within their noise, the sentence says
so and nothing is recommended as decided.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.read import Run
from analysis.statistics import Interval, ranges_overlap, welch_interval
from analysis.text import join_words, number

CONFIDENCE = 0.95
"""Of all comparisons of one aim together (Bonferroni)."""

CLOSE_RATIO = 1.05
"""Speed or memory of single runs nearer than this is not ranked. A convention: one run of each
setting does not show how much runs vary."""

SHARED_GPU_GIB = 1.0
"""Memory held on a GPU before the run that suggests that somebody else uses it."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Something a person may want, and the column that measures it."""

    key: str
    title: str
    column: str
    unit: str
    higher_is_better: bool = True
    of_speed: bool = False
    of_memory: bool = False
    of_quality: bool = False


AIMS = (
    Aim("fastest", "Fastest", "steps_per_second", "optimizer steps/s", of_speed=True),
    Aim("least_memory", "Least memory", "peak_memory_gib", "GiB peak", False, of_memory=True),
    Aim("best_quality", "Best quality", "best_rouge_f1", "ROUGE F1", of_quality=True),
    Aim(
        "best_rouge_per_minute",
        "Best ROUGE per minute",
        "rouge_gain_per_min",
        "ROUGE F1 gained/min",
        of_speed=True,
        of_quality=True,
    ),
    Aim(
        "best_rouge_per_gib",
        "Best ROUGE per GiB",
        "rouge_per_gib",
        "ROUGE F1/GiB peak",
        of_memory=True,
        of_quality=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One setting under one aim: a value for each run, for quality the mean of each seed."""

    label: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What settings are ranked by."""
        return fmean(self.values)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the numbers say about one aim."""

    aim: Aim
    choice: str | None
    """The setting with the best mean; None where there may be no ranking, or several share it."""
    certainty: str
    """Whether the data tell the choice from every other setting: "yes", "no", or "single runs"
    where the distance is large and how much runs vary is not known."""
    reason: str
    ranking: tuple[Standing, ...]
    """Best first; in the order of the runs where there may be no ranking."""
    intervals: Mapping[str, Interval]
    """Choice minus each other setting, by the other's label, where the spread is known."""

    @property
    def decided(self) -> bool:
        """Whether the choice is beyond the noise that was measured."""
        return self.certainty == "yes"


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the report says about the numbers."""

    aims: tuple[Finding, ...]
    reference_batch: int | None
    """Effective batch of the comparison."""
    comparable: tuple[bool, ...]
    """For each run, whether it completed with that effective batch."""
    warnings: tuple[str, ...]
    """Sentences about what limits the comparison."""
    blocks_speed: tuple[str, ...]
    """Names of what differs, so that speed is not ranked; empty: nothing."""
    blocks_memory: tuple[str, ...]
    blocks_quality: tuple[str, ...]

    def blocks(self, *, speed: bool, memory: bool, quality: bool) -> tuple[str, ...]:
        """What stands against a ranking that needs these to be comparable."""
        parts = (
            self.blocks_speed if speed else (),
            self.blocks_memory if memory else (),
            self.blocks_quality if quality else (),
        )
        return tuple(dict.fromkeys(name for part in parts for name in part))


def find(runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str]) -> Findings:
    """Draws the findings from the runs, their table and the labels of their settings."""
    reference = _reference_batch(runs)
    comparable = tuple(
        run.completed and run.plan.get("effective_batch_size") == reference for run in runs
    )
    chosen = [run for run, fits in zip(runs, comparable, strict=True) if fits]
    names = [label for label, fits in zip(labels, comparable, strict=True) if fits]
    machine = _differences(chosen, names, _MACHINE)
    memory = machine | _differences(chosen, names, _MEMORY)
    quality = _differences(chosen, names, _QUALITY)
    differing = Findings(
        aims=(),
        reference_batch=reference,
        comparable=comparable,
        warnings=(
            *_unequal_batches(runs, labels, reference),
            *(memory | quality).values(),
            *_limits(runs, chosen, names),
        ),
        blocks_speed=tuple(machine),
        blocks_memory=tuple(memory),
        blocks_quality=tuple(quality),
    )
    aims = tuple(
        _judge(
            aim,
            differing.blocks(speed=aim.of_speed, memory=aim.of_memory, quality=aim.of_quality),
            _standings(aim, runs, frame, labels, comparable),
            _endings(runs, labels),
        )
        for aim in AIMS
    )
    return replace(differing, aims=aims)


def _packages(run: Run) -> str | None:
    packages = run.environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or None


_MACHINE = {
    "device": lambda run: run.environment.get("device_name"),
    "kind of device": lambda run: run.environment.get("device_kind"),
    # A run on the CPU has the whole machine for its device.
    "machine": lambda run: (
        run.environment.get("hostname") if run.environment.get("device_kind") == "cpu" else None
    ),
    "number of CPU cores": lambda run: (
        run.environment.get("cpu_count") if run.environment.get("device_kind") == "cpu" else None
    ),
    "precision": lambda run: run.environment.get("precision"),
    "driver": lambda run: run.environment.get("driver_version"),
    "Python": lambda run: run.environment.get("python"),
    "library versions": _packages,
    "model": lambda run: run.model.get("name"),
    "training data": lambda run: run.data_fingerprint,
}
_MEMORY = {"way of measuring memory": lambda run: run.metrics.get("memory_source")}
_QUALITY = {
    "model": lambda run: run.model.get("name"),
    "training data": lambda run: run.data_fingerprint,
    "ROUGE tokenizer": lambda run: run.metrics.get("rouge_tokenizer"),
}


def _differences(
    runs: Sequence[Run], labels: Sequence[str], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Finds the facts that are not the same for all runs; by name, who has which value."""
    found = {}
    for name, read in facts.items():
        holders: dict[str, list[str]] = {}
        for run, label in zip(runs, labels, strict=True):
            if (value := read(run)) is not None:
                holders.setdefault(str(value), []).append(label)
        if len(holders) > 1:
            if name == "library versions":
                holders = _only_changes(holders)
            listed = "; ".join(
                f"{value}: {join_words(dict.fromkeys(who))}" for value, who in holders.items()
            )
            found[name] = f"The runs differ in {name} ({listed}); what depends on it is not ranked."
    return found


def _only_changes(holders: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Leaves out of lists of versions what all of them share."""
    versions = [set(listed.split(", ")) for listed in holders]
    common = versions[0].intersection(*versions[1:])
    return {
        ", ".join(sorted(own - common)) or "none of these": who
        for own, who in zip(versions, holders.values(), strict=True)
    }


def _reference_batch(runs: Sequence[Run]) -> int | None:
    """The effective batch that most runs have; of equally many, the first planned."""
    sizes = [size for run in runs if (size := run.plan.get("effective_batch_size")) is not None]
    return Counter(sizes).most_common(1)[0][0] if sizes else None


def _unequal_batches(
    runs: Sequence[Run], labels: Sequence[str], reference: int | None
) -> Iterable[str]:
    others: dict[str, int] = {}
    for run, label in zip(runs, labels, strict=True):
        size = run.plan.get("effective_batch_size")
        if size is not None and size != reference:
            others[label] = size
    for label, size in others.items():
        yield (
            f"{label} has an effective batch of {size} and the others {reference}: its steps are "
            "not the same steps, so it is not comparable and is left out of every ranking."
        )


def _limits(runs: Sequence[Run], chosen: Sequence[Run], labels: Sequence[str]) -> Iterable[str]:
    """Sentences about what the runs cannot show, though they may be ranked."""
    still = sum(run.status == "running" for run in runs)
    if still:
        yield f"{still} of {len(runs)} runs are still running: this report is not final."
    if chosen:
        seeds: dict[str, set[int | None]] = {}
        for run, label in zip(chosen, labels, strict=True):
            seeds.setdefault(label, set()).add(run.seed)
        single = [label for label, own in seeds.items() if len(own) == 1]
        if single:
            who = "Every setting" if len(single) == len(seeds) else join_words(single)
            yield (
                f"{who} completed with one seed only: differences in quality cannot be told from "
                "the noise between seeds."
            )
    for name, key in (("machines", "hostname"), ("GPUs", "device_uuid")):
        distinct = {run.environment.get(key) for run in chosen} - {None}
        on_gpu = any(run.environment.get("device_kind") == "cuda" for run in chosen)
        if on_gpu and len(distinct) > 1:
            yield (
                f"The runs used {len(distinct)} {name} of the same kind, and single devices differ "
                "somewhat in speed."
            )
    for run, label in zip(chosen, labels, strict=True):
        held = run.metrics.get("baseline_memory_bytes") or 0
        if run.environment.get("device_kind") == "cuda" and held > SHARED_GPU_GIB * 2**30:
            yield (
                f"The GPU of {label}, seed {run.seed}, held {number(held / 2**30)} GiB before the "
                "run began: it may have been shared, and then speed and memory are not the run's "
                "alone."
            )
    commits = {run.environment.get("git_commit") for run in chosen} - {None}
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} different commits of the code."
    if any(run.environment.get("git_dirty") for run in chosen):
        yield "Some runs come from a checkout with changes that were not committed."
    cut = max(
        (
            (run.data.get("truncated_sources") or 0) + (run.data.get("truncated_targets") or 0)
            for run in chosen
        ),
        default=0,
    )
    if cut:
        yield f"{cut} texts were longer than the limits on tokens and were cut."


def _standings(
    aim: Aim,
    runs: Sequence[Run],
    frame: pd.DataFrame,
    labels: Sequence[str],
    comparable: Sequence[bool],
) -> list[Standing]:
    values: dict[str, dict[Any, list[float]]] = {}
    for place, (run, label, fits) in enumerate(zip(runs, labels, comparable, strict=True)):
        value = frame[aim.column].iloc[place]
        if fits and not pd.isna(value):
            # The same seed twice says nothing about the noise between seeds.
            key = run.seed if aim.of_quality else place
            values.setdefault(label, {}).setdefault(key, []).append(float(value))
    return [
        Standing(label, tuple(fmean(group) for group in groups.values()))
        for label, groups in values.items()
    ]


def _endings(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, list[str]]:
    """The statuses of each setting's runs."""
    endings: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        endings.setdefault(label, []).append(run.status)
    return endings


def _judge(
    aim: Aim,
    blocks: Sequence[str],
    standings: Sequence[Standing],
    endings: Mapping[str, Sequence[str]],
) -> Finding:
    if not standings:
        return Finding(aim, None, "no", "No comparable run measured this.", (), {})
    if blocks and len(standings) > 1:
        reason = f"No ranking: the runs differ in {join_words(blocks)}."
        return Finding(aim, None, "no", reason, tuple(standings), {})
    ranking = tuple(
        sorted(standings, key=lambda standing: standing.mean, reverse=aim.higher_is_better)
    )
    first, *others = ranking
    tied = [standing.label for standing in ranking if standing.mean == first.mean]
    if len(tied) > 1:
        reason = f"{join_words(tied)} have the same best value: {_value(aim, first)}."
        return Finding(aim, None, "no", reason, ranking, {})
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(others))
    intervals = {
        other.label: interval
        for other in others
        if (interval := welch_interval(first.values, other.values, confidence))
    }
    certainty = "yes" if len(intervals) == len(others) else "single runs"
    close = [other for other in others if not _is_apart(aim, first, other, intervals)]
    return Finding(
        aim,
        choice=first.label,
        certainty=certainty if others and not close else "no",
        reason=_reason(aim, ranking, intervals, close) + _ending(endings.get(first.label, ())),
        ranking=ranking,
        intervals=intervals,
    )


def _is_apart(
    aim: Aim, first: Standing, other: Standing, intervals: Mapping[str, Interval]
) -> bool:
    if other.label in intervals:
        return intervals[other.label].excludes_zero
    if aim.of_quality:
        return False  # one seed cannot show the noise between seeds
    low, high = sorted((first.mean, other.mean))
    return low > 0 and high / low >= CLOSE_RATIO


def _reason(
    aim: Aim,
    ranking: Sequence[Standing],
    intervals: Mapping[str, Interval],
    close: Sequence[Standing],
) -> str:
    first, *others = ranking
    best = "highest" if aim.higher_is_better else "lowest"
    if not others:
        return (
            f"{first.label} is the only setting with a figure ({_value(aim, first)}); there is "
            "nothing to compare it with."
        )
    following = others[0]
    if close or len(intervals) < len(others):
        best += " observed"
    leads = (
        f"{first.label} has the {best} value: "
        f"{_value(aim, first)}, {_distance(aim, first, following)}."
    )
    return " ".join([leads, *_certainty(aim, first, others, intervals, close)])


def _certainty(
    aim: Aim,
    first: Standing,
    others: Sequence[Standing],
    intervals: Mapping[str, Interval],
    close: Sequence[Standing],
) -> Iterable[str]:
    """Sentences about how far the data tell the first setting from the others."""
    measured = [other for other in others if other.label in intervals]
    single = [other for other in others if other.label not in intervals]
    if measured:
        interval = intervals[measured[0].label]
        shared = " over all comparisons" if len(others) > 1 else ""
        overlap = ranges_overlap(first.values, measured[0].values)
        yield (
            f"Against {measured[0].label} the difference is {_signed(interval.difference)} with a "
            f"{number(100 * CONFIDENCE, 2)} % interval{shared} of {_signed(interval.low)} to "
            f"{_signed(interval.high)} (Welch); the ranges of the runs "
            f"{'overlap' if overlap else 'do not overlap'}."
        )
    noise = [other.label for other in close if other.label in intervals]
    if noise:
        yield f"The data cannot tell it from {join_words(noise)}: the interval includes zero."
    if single and aim.of_quality:
        who = join_words(other.label for other in single)
        yield f"With one seed, the difference from {who} cannot be told from noise."
    elif single:
        near = [other.label for other in single if other in close]
        limit = number(100 * (CLOSE_RATIO - 1), 1)
        whom = join_words(other.label for other in single)
        yield (
            f"Between it and {whom} how much runs vary is not known, since a side has one run; "
            + (
                f"a difference under {limit} % is not ranked, so {join_words(near)} may be as good."
                if near
                else f"the difference is over {limit} %."
            )
        )


def _value(aim: Aim, standing: Standing) -> str:
    if len(standing.values) == 1:
        return f"{number(standing.mean)} {aim.unit}"
    low, high = number(min(standing.values)), number(max(standing.values))
    spread = f"mean of {len(standing.values)}, range {low} to {high}"
    return f"{number(standing.mean)} {aim.unit} ({spread})"


def _distance(aim: Aim, first: Standing, following: Standing) -> str:
    """How far the next setting is: as a ratio, for quality as a difference."""
    shown = f"{following.label} ({number(following.mean)})"
    if min(first.mean, following.mean) <= 0 or aim.column == "best_rouge_f1":
        word = "more" if aim.higher_is_better else "less"
        return f"{number(abs(first.mean - following.mean), 2)} {word} than {shown}"
    if aim.higher_is_better:
        return f"{number(first.mean / following.mean)} times that of {shown}"
    return f"where {shown} has {number(following.mean / first.mean)} times as much"


def _ending(statuses: Sequence[str]) -> str:
    failed = Counter(status for status in statuses if status != "completed")
    if not failed:
        return ""
    listed = join_words(f"{count} {status}" for status, count in failed.items())
    return f" Of its {len(statuses)} runs not all completed ({listed})."


def _signed(value: float) -> str:
    return ("−" if value < 0 else "") + number(abs(value), 2)
