"""Turns numbers into findings: for each comparison and aim a choice, and how sure it is.

Nothing here knows a preset by name. Settings are ranked and tested over shared seeds, among
completed, undisturbed runs that differ only in the setting. A choice is decided if the test and
the ranking agree.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import pandas as pd

from analysis.findings import comparisons, decisions, drift, limits
from analysis.findings.batch_size import judge_batch_size
from analysis.findings.contrasts import Contrasts
from analysis.findings.convergence import pooled_steps, target_rouge
from analysis.findings.facts import (
    AIMS,
    Aim,
    Certainty,
    Comparison,
    Contrast,
    Finding,
    Findings,
    Limit,
    OneAfterTheOther,
    Outcome,
    Standing,
)
from analysis.findings.noise import Noise
from analysis.findings.same_training import same_training
from analysis.findings.thresholds import MARGIN
from analysis.reading.runs import Run
from batchopt.record.statuses import Status

_DONE = (Status.completed, Status.oom, Status.running)
"""What resuming a sweep does not run again."""

QUALITY = next(aim for aim in AIMS if aim.key == "best_quality")


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may set."""

    equivalence_margin: float = MARGIN
    """ROUGE points of 100."""
    memory_budget_gib: float | None = None
    baseline: str | None = None
    """A preset or a setting's label; None: the slowest setting."""
    full_steps: int | None = None
    """Optimizer steps of the training that is planned; None: those that the config says."""


def find(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], options: Options | None = None
) -> Findings:
    """Draws the findings from the runs, their table and the labels of their settings."""
    options = options or Options()
    groups = comparisons.group(runs)
    parts = tuple(
        _compare(facets, places, runs=runs, frame=frame, labels=labels, options=options)
        for facets, places in groups
    )
    left: dict[str, int] = {}
    for run in runs:
        if run.number is not None and run.status not in _DONE:
            left[run.sweep] = left.get(run.sweep, 0) + 1
    return Findings(
        comparisons=parts,
        limits=tuple(limits.limits_of_all(runs, labels, groups)),
        completed=tuple(run.completed for run in runs),
        unfinished=tuple(left.items()),
        trainings=_rank_trainings(parts, runs, frame, options) if len(parts) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The completed runs of a comparison with the usual effective batch, and what they allow."""

    runs: tuple[Run, ...]
    labels: tuple[str, ...]
    places: tuple[int, ...]
    """Where their rows are."""
    blocks: Mapping[str, tuple[str, ...]]
    """Keys of what differs, for "speed", "memory" and "quality"."""
    endings: Mapping[str, Sequence[str]]

    def kept(self, aim: Aim) -> tuple[tuple[str, ...], set[int]]:
        """The keys of what differs for an aim, and which runs can be compared all the same."""
        needed = [
            *(["speed"] if aim.of_speed else []),
            *(["memory"] if aim.of_memory else []),
            *(["quality"] if aim.of_quality else []),
        ]
        keys = tuple(dict.fromkeys(key for kind in needed for key in self.blocks[kind]))
        return keys, limits.main_group(self.runs, self.labels, keys)


def _compare(
    facets: comparisons.Facets,
    places: Sequence[int],
    *,
    runs: Sequence[Run],
    frame: pd.DataFrame,
    labels: Sequence[str],
    options: Options,
) -> Comparison:
    own = [runs[place] for place in places]
    reference = comparisons.effective_batch(own)
    chosen = [
        place
        for place in places
        if runs[place].completed and runs[place].plan.get("effective_batch_size") == reference
    ]
    completed, names = [runs[place] for place in chosen], [labels[place] for place in chosen]
    speed, memory, quality, differing = limits.find_blocks(completed, names)
    by_label = {label: [place for place in places if labels[place] == label] for label in
                dict.fromkeys(labels[place] for place in places)}  # fmt: skip
    candidates = _Candidates(
        runs=tuple(completed),
        labels=tuple(names),
        places=tuple(chosen),
        blocks={"speed": speed, "memory": memory, "quality": quality},
        endings={label: [runs[at].status for at in found] for label, found in by_label.items()},
    )
    trained = same_training(own)
    target = target_rouge(own)
    told: list[Limit] = [*differing, *limits.limits_of_comparison(completed, names)]
    comparison = Comparison(
        facets=facets,
        places=tuple(places),
        reference_batch=reference,
        limits=tuple(told),
        blocks_speed=speed,
        blocks_memory=memory,
        blocks_quality=quality,
        margin=options.equivalence_margin / 100,
        same_training=trained,
        batch_size=judge_batch_size(own, reference),
        target=target,
        steps_to_target=pooled_steps(completed, target),
    )
    judged = {
        aim.key: _judge(aim, candidates, frame, margin=comparison.margin, trained=trained.verified)
        for aim in AIMS
    }
    timed = _timed(candidates, AIMS[0])
    if shift := drift.find_speed_shift(timed):
        told.append(shift)
    if len(timed) > 1 and drift.turns(timed):
        told.append(OneAfterTheOther())
    comparison = replace(
        comparison, aims=tuple(finding for finding, _ in judged.values()), limits=tuple(told)
    )
    tables = {key: table for key, (_, table) in judged.items()}
    return decisions.decide(comparison, runs, by_label, tables, decisions.Wishes(
        options.memory_budget_gib, options.baseline, options.full_steps))  # fmt: skip


def _timed(candidates: _Candidates, aim: Aim) -> dict[str, list[Run]]:
    """The runs of each setting with a speed that counts."""
    _, kept = candidates.kept(aim)
    found: dict[str, list[Run]] = {}
    for place, (run, label) in enumerate(zip(candidates.runs, candidates.labels, strict=True)):
        measured = run.metrics.get("steps_per_second") is not None
        if place in kept and measured and not _is_disturbed(aim, run):
            found.setdefault(label, []).append(run)
    return found


def _is_disturbed(aim: Aim, run: Run) -> bool:
    """Whether something else made the numbers of a run for an aim."""
    shared = run.metrics.get("memory_source") == "nvml_device_minus_baseline"
    return bool(run.timing_untrusted) and (aim.of_speed or (aim.of_memory and shared))


def _judge(
    aim: Aim,
    candidates: _Candidates,
    frame: pd.DataFrame,
    *,
    margin: float,
    trained: bool | None,
) -> tuple[Finding, Contrasts]:
    """What the numbers say about one aim, and what compares its settings pair by pair."""
    keys, kept = candidates.kept(aim)
    values: dict[str, list[tuple[int | None, float]]] = {}
    counted: dict[str, list[Run]] = {}
    others: dict[str, Standing] = {}
    disturbed = dict.fromkeys(candidates.labels) if aim.of_speed or aim.of_memory else {}
    for place, (run, label) in enumerate(zip(candidates.runs, candidates.labels, strict=True)):
        if _is_disturbed(aim, run):
            continue
        disturbed.pop(label, None)
        value = frame[aim.column].iloc[candidates.places[place]]
        if pd.isna(value):
            continue
        if place not in kept:
            before = others[label].values if label in others else ()
            others[label] = Standing(label, (*before, float(value)))
            continue
        counted.setdefault(label, []).append(run)
        values.setdefault(label, []).append((run.seed, float(value)))
    table = Contrasts(
        aim,
        {label: _blocks(own, merge=aim.of_quality) for label, own in values.items()},
        Noise(counted),
        margin,
        order=drift.turns(counted) if aim.of_speed and len(counted) > 1 else None,
    )
    finding = _find(
        aim,
        table,
        keys=keys,
        others=others,
        disturbed=tuple(disturbed),
        candidates=candidates,
        trained=trained,
    )
    return finding, table


def _blocks(values: Sequence[tuple[int | None, float]], *, merge: bool) -> dict[Hashable, float]:
    """A setting's value in each block: of each seed, or of each repeat of each seed.

    The same seed twice is one value of quality, and two of what it costs.
    """
    by_seed: dict[int | None, list[float]] = {}
    for seed, value in values:
        by_seed.setdefault(seed, []).append(value)
    if merge:
        return {seed: fmean(own) for seed, own in by_seed.items()}
    return {(seed, number): one for seed, own in by_seed.items() for number, one in enumerate(own)}


def _find(
    aim: Aim,
    table: Contrasts,
    *,
    keys: tuple[str, ...],
    others: Mapping[str, Standing],
    disturbed: tuple[str, ...],
    candidates: _Candidates,
    trained: bool | None,
) -> Finding:
    left_out = tuple(label for label in others if label not in table.samples)
    ranking = table.ranking()

    def finding(outcome: Outcome, standings: Sequence[Standing], **more: object) -> Finding:
        values = {
            "choice": None,
            "certainty": "no",
            "untrusted": disturbed,
            "left_out": left_out,
            "blocks": keys if left_out else (),
        } | more
        return Finding(aim=aim, outcome=outcome, ranking=tuple(standings), **values)  # type: ignore[arg-type]

    if not ranking:
        return finding("not measured", ())
    if len(ranking) == 1 and left_out:
        return finding("blocked", [*ranking, *(others[label] for label in left_out)])
    first = ranking[0]
    endings = candidates.endings[first.label]
    ended = {"runs": len(endings), "unfinished": _unfinished(endings)}
    if len(ranking) == 1:
        return finding("alone", ranking, choice=first.label, **ended)
    contrasts = table.against(first.label, [one.label for one in ranking[1:]], better=True)
    if aim is QUALITY and trained is not False:
        return finding("one training", ranking, contrasts=contrasts)
    tied = tuple(one.label for one in ranking if one.values == first.values)
    if len(tied) > 1:
        return finding("tied", ranking, contrasts=contrasts, tied=tied)
    certainty = certainty_of(contrasts)
    found = finding(
        "ranked",
        ranking,
        # Quality is no reason to choose where the difference lies within noise.
        choice=None if aim is QUALITY and certainty == "no" else first.label,
        certainty=certainty,
        contrasts=contrasts,
        **ended,
    )
    return replace(found, more_seeds=decisions.seeds_to_decide(found, table))


def certainty_of(contrasts: Sequence[Contrast]) -> Certainty:
    """How sure it is that the first setting of all contrasts is the best."""
    if not all(contrast.apart for contrast in contrasts):
        return "no"
    return "yes" if all(contrast.over_runs for contrast in contrasts) else "single runs"


def _rank_trainings(
    parts: Sequence[Comparison], runs: Sequence[Run], frame: pd.DataFrame, options: Options
) -> Finding | None:
    """Ranks the comparisons by quality, where they are different trainings on the same data."""
    places = [place for part in parts for place in part.places if runs[place].completed]
    names = {
        place: ", ".join(f"{key} = {value}" for key, value in part.facets)
        for part in parts
        for place in part.places
    }
    chosen, labels = [runs[place] for place in places], [names[place] for place in places]
    if len(set(labels)) < 2:
        return None
    *_, quality, _ = limits.find_blocks(chosen, labels)
    candidates = _Candidates(
        runs=tuple(chosen),
        labels=tuple(labels),
        places=tuple(places),
        blocks={"speed": (), "memory": (), "quality": quality},
        endings={
            label: [runs[at].status for at in names if names[at] == label]
            for label in dict.fromkeys(names.values())
        },
    )
    margin = options.equivalence_margin / 100
    return _judge(QUALITY, candidates, frame, margin=margin, trained=False)[0]


def _unfinished(statuses: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(status for status in statuses if status != Status.completed).items())
