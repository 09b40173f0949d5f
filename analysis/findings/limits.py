"""What keeps two settings from being compared, or limits what a comparison says."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from analysis.findings.comparisons import Facets, effective_batch, pair_of
from analysis.findings.facts import (
    Collapsed,
    CutTexts,
    Differs,
    DisturbedTiming,
    Limit,
    MissingSeeds,
    NewerRecords,
    NotAsAsked,
    OneSeed,
    OtherBatch,
    SeveralCommits,
    SeveralDevices,
    SharedGpu,
    StillRunning,
    UncommittedCode,
)
from analysis.findings.thresholds import MARGIN
from analysis.findings.units import BYTES_PER_GIB
from analysis.reading.runs import Run
from batchopt.record.documents import RECORD_VERSION
from batchopt.record.statuses import Status

COLLAPSED = 0.8
"""A last ROUGE below this share of the best is told."""

SHARED_GPU_GIB = 1.0
"""Memory held on a GPU before the run that suggests that somebody else uses it."""


def _packages(run: Run) -> str | None:
    packages = run.environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or None


def _on_cpu(key: str) -> Callable[[Run], Any]:
    """A run on the CPU has the whole machine for its device."""
    return lambda run: (
        run.environment.get(key) if run.environment.get("device_kind") == "cpu" else None
    )


_MACHINE: Mapping[str, Callable[[Run], Any]] = {
    "device": lambda run: run.environment.get("device_name"),
    "device_kind": lambda run: run.environment.get("device_kind"),
    "machine": _on_cpu("hostname"),
    "cpu_count": _on_cpu("cpu_count"),
    "threads": _on_cpu("threads"),
    "precision": lambda run: run.environment.get("precision"),
    "driver": lambda run: run.environment.get("driver_version"),
    "python": lambda run: run.environment.get("python"),
    "packages": _packages,
    "model": lambda run: run.model.get("name"),
    "data": lambda run: run.data_fingerprint,
}
_MEMORY: Mapping[str, Callable[[Run], Any]] = {
    "memory_source": lambda run: run.metrics.get("memory_source")
}
_QUALITY: Mapping[str, Callable[[Run], Any]] = {
    "model": lambda run: run.model.get("name"),
    "data": lambda run: run.data_fingerprint,
    "rouge_tokenizer": lambda run: run.metrics.get("rouge_tokenizer"),
}


def find_blocks(
    runs: Sequence[Run], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[Limit]]:
    """Finds what differs between runs that are to be compared.

    Returns:
        The keys that block a ranking of speed, of memory and of quality, and a limit for each.
    """
    machine = _differences(runs, labels, _MACHINE)
    memory = machine | _differences(runs, labels, _MEMORY)
    quality = _differences(runs, labels, _QUALITY)
    limits: list[Limit] = [
        Differs(fact, tuple((value, tuple(who)) for value, who in holders))
        for fact, holders in (memory | quality).items()
    ]
    return tuple(machine), tuple(memory), tuple(quality), limits


def main_group(runs: Sequence[Run], labels: Sequence[str], keys: Sequence[str]) -> set[int]:
    """The places of the runs that agree in some facts: the group with most settings, then runs.

    A fact that is not known of a run agrees with every value.
    """
    reads = [{**_MACHINE, **_MEMORY, **_QUALITY}[key] for key in keys]
    signatures = [tuple(read(run) for read in reads) for run in runs]
    best: tuple[int, int, set[int]] = (0, 0, set())
    for wanted in dict.fromkeys(sorted(signatures, key=lambda one: sum(v is None for v in one))):
        members = {
            place
            for place, own in enumerate(signatures)
            if all(a is None or b is None or a == b for a, b in zip(own, wanted, strict=True))
        }
        size = (len({labels[place] for place in members}), len(members))
        if size > best[:2]:
            best = (*size, members)
    return best[2]


def _differences(
    runs: Sequence[Run], labels: Sequence[str], facts: Mapping[str, Callable[[Run], Any]]
) -> dict[str, list[tuple[str, list[str]]]]:
    """The facts that are not the same for all runs, and who has which value."""
    found = {}
    for name, read in facts.items():
        holders: dict[str, dict[str, None]] = {}
        for run, label in zip(runs, labels, strict=True):
            if (value := read(run)) is not None:
                holders.setdefault(str(value), {})[label] = None
        if len(holders) > 1:
            listed = [(value, list(who)) for value, who in holders.items()]
            found[name] = _only_changes(listed) if name == "packages" else listed
    return found


def _only_changes(holders: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Leaves out of lists of versions what all of them share."""
    versions = [set(listed.split(", ")) for listed, _ in holders]
    common = versions[0].intersection(*versions[1:])
    return [
        (", ".join(sorted(own - common)) or "–", who)
        for own, (_, who) in zip(versions, holders, strict=True)
    ]


def limits_of_all(
    runs: Sequence[Run], labels: Sequence[str], groups: Sequence[tuple[Facets, list[int]]]
) -> Iterator[Limit]:
    """Limits that concern all runs, or some of them whatever they are compared with."""
    still = sum(run.status == Status.running for run in runs)
    if still:
        yield StillRunning(still, len(runs))
    newer = [run.newer_schema for run in runs if run.newer_schema is not None]
    if newer:
        yield NewerRecords(len(newer), max(newer), RECORD_VERSION)
    yield from _unequal_batches(runs, labels, groups)
    disturbed: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels, strict=True):
        if run.timing_untrusted:
            disturbed.setdefault(label, []).append(run)
    for label, found in disturbed.items():
        reasons = dict.fromkeys(reason for run in found for reason in run.timing_untrusted)
        yield DisturbedTiming(label, tuple(run.seed for run in found), tuple(reasons))
    for run, label in zip(runs, labels, strict=True):
        if run.requested:
            asked, got = _as_asked(run.requested), _as_asked(run.plan)
            if asked != got:
                yield NotAsAsked(label, run.seed, asked, got)
    commits = {run.environment.get("git_commit") for run in runs} - {None}
    if len(commits) > 1:
        yield SeveralCommits(len(commits))
    if any(run.environment.get("git_dirty") for run in runs):
        yield UncommittedCode()
    cut = max(
        (
            (run.data.get("truncated_sources") or 0) + (run.data.get("truncated_targets") or 0)
            for run in runs
        ),
        default=0,
    )
    if cut:
        yield CutTexts(cut)


def limits_of_comparison(runs: Sequence[Run], labels: Sequence[str]) -> Iterator[Limit]:
    """Limits of a ranking among completed runs."""
    seeds: dict[str, set[int | None]] = {}
    for run, label in zip(runs, labels, strict=True):
        seeds.setdefault(label, set()).add(run.seed)
    everyone = set().union(*seeds.values()) - {None}
    for label, own in seeds.items():
        others = set().union(*(seeds[other] for other in seeds if other != label))
        if (missing := everyone - own) and own & others:
            yield MissingSeeds(label, tuple(sorted(seed for seed in missing if seed is not None)))
    fell: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels, strict=True):
        best, last = run.metrics.get("best_rouge_f1"), run.metrics.get("rouge_f1")
        if best and last is not None and last < COLLAPSED * best and best - last > MARGIN / 100:
            fell.setdefault(label, []).append(run)
    for label, found in fell.items():
        worst = min(found, key=lambda run: float(run.metrics["rouge_f1"]))
        best, last = worst.metrics["best_rouge_f1"], worst.metrics["rouge_f1"]
        yield Collapsed(label, tuple(run.seed for run in found), best, last)
    single = [label for label, own in seeds.items() if len(own) == 1]
    if single:
        yield OneSeed(tuple(single), everyone=len(single) == len(seeds))
    on_gpu = any(run.environment.get("device_kind") == "cuda" for run in runs)
    kinds: tuple[tuple[Literal["machines", "gpus"], str], ...] = (
        ("machines", "hostname"),
        ("gpus", "device_uuid"),
    )
    for kind, key in kinds:
        distinct = {run.environment.get(key) for run in runs} - {None}
        if on_gpu and len(distinct) > 1:
            yield SeveralDevices(kind, len(distinct))
    for run, label in zip(runs, labels, strict=True):
        held = (run.metrics.get("baseline_memory_bytes") or 0) / BYTES_PER_GIB
        if run.environment.get("device_kind") == "cuda" and held > SHARED_GPU_GIB:
            yield SharedGpu(label, run.seed, held)


def _unequal_batches(
    runs: Sequence[Run], labels: Sequence[str], groups: Sequence[tuple[Facets, list[int]]]
) -> Iterable[Limit]:
    sizes = [run.plan.get("effective_batch_size") for run in runs]
    reference = effective_batch([runs[place] for place in groups[0][1]])
    others = {
        label: (size, reference)
        for label, size in zip(labels, sizes, strict=True)
        if size is not None and reference is not None and size != reference
    }
    for label, (size, usual) in others.items():
        yield OtherBatch(label, size, usual)


def _as_asked(plan: Mapping[str, Any]) -> str:
    recomputed = ", gradient_checkpointing" if plan.get("gradient_checkpointing") else ""
    return f"{pair_of(plan) or 'auto'}{recomputed}"
