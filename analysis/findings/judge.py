"""Turns numbers into findings: for each comparison and aim a choice, and how sure it is.

Nothing here knows a preset by name. A ranking is made only among completed runs that differ in
nothing but the setting; where that fails, or the values lie within their noise, the finding says
so and nothing is recommended as decided.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, harmonic_mean

import pandas as pd

from analysis.findings import comparisons, decisions, limits
from analysis.findings.batch_size import judge_batch_size
from analysis.findings.facts import (
    AIMS,
    Aim,
    Certainty,
    Comparison,
    Contrast,
    Finding,
    Findings,
    Outcome,
    Standing,
)
from analysis.findings.noise import Noise
from analysis.findings.statistics import (
    Interval,
    TTest,
    holm,
    paired_test,
    ranges_overlap,
    welch_test,
)
from analysis.findings.thresholds import CLOSE_RATIO, MARGIN
from analysis.reading.runs import Run
from batchopt.record.statuses import Status

CONFIDENCE = 0.95
"""Of one interval; the p-values are corrected for all pairs of an aim."""

MANY_SETTINGS = 30
"""Of more than these only the best is compared with each other one: pairs grow with the square."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may set."""

    equivalence_margin: float = MARGIN
    """ROUGE points of 100."""
    memory_budget_gib: float | None = None


def find(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], options: Options | None = None
) -> Findings:
    """Draws the findings from the runs, their table and the labels of their settings."""
    options = options or Options()
    groups = comparisons.group(runs)
    return Findings(
        comparisons=tuple(
            _compare(facets, places, runs=runs, frame=frame, labels=labels, options=options)
            for facets, places in groups
        ),
        limits=tuple(limits.limits_of_all(runs, labels, groups)),
        completed=tuple(run.completed for run in runs),
    )


@dataclass(frozen=True, slots=True)
class _Setting:
    """The completed runs of one setting and where their rows are."""

    label: str
    runs: tuple[Run, ...]
    places: tuple[int, ...]


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
    members: dict[str, list[int]] = {}
    for place in places:
        run = runs[place]
        if run.completed and run.plan.get("effective_batch_size") == reference:
            members.setdefault(labels[place], []).append(place)
    settings = [
        _Setting(label, tuple(runs[place] for place in chosen), tuple(chosen))
        for label, chosen in members.items()
    ]
    chosen = sorted(place for setting in settings for place in setting.places)
    completed, names = [runs[place] for place in chosen], [labels[place] for place in chosen]
    speed, memory, quality, differing = limits.find_blocks(completed, names)
    comparison = Comparison(
        facets=facets,
        places=tuple(places),
        reference_batch=reference,
        limits=(*differing, *limits.limits_of_comparison(completed, names)),
        blocks_speed=speed,
        blocks_memory=memory,
        blocks_quality=quality,
        margin=options.equivalence_margin / 100,
        batch_size=judge_batch_size(own, reference),
    )
    endings = {
        label: [runs[place].status for place in places if labels[place] == label]
        for label in dict.fromkeys(labels[place] for place in places)
    }
    noise = Noise({setting.label: setting.runs for setting in settings})
    judged = [
        _judge(aim, comparison, settings, frame=frame, noise=noise, endings=endings) for aim in AIMS
    ]
    comparison = replace(
        comparison,
        aims=tuple(finding for finding, _ in judged),
        quality=next(
            tuple(pairs) for finding, pairs in judged if finding.aim.key == "best_quality"
        ),
    )
    return decisions.decide(comparison, own, endings, options.memory_budget_gib)


def _judge(
    aim: Aim,
    comparison: Comparison,
    settings: Sequence[_Setting],
    *,
    frame: pd.DataFrame,
    noise: Noise,
    endings: Mapping[str, Sequence[str]],
) -> tuple[Finding, list[Contrast]]:
    """What the numbers say about one aim, and every pair that was compared for it."""
    samples = {setting.label: _sample(aim, setting, frame) for setting in settings}
    measured = {label: sample for label, sample in samples.items() if sample}
    standings = [Standing(label, tuple(sample.values())) for label, sample in measured.items()]
    disturbed = tuple(
        setting.label
        for setting in settings
        if aim.of_speed and all(run.timing_untrusted for run in setting.runs)
    )
    blocks = comparison.blocks(speed=aim.of_speed, memory=aim.of_memory, quality=aim.of_quality)

    def finding(outcome: Outcome, ranking: Sequence[Standing], **more: object) -> Finding:
        values = {"choice": None, "certainty": "no", "untrusted": disturbed} | more
        return Finding(aim=aim, outcome=outcome, ranking=tuple(ranking), **values)  # type: ignore[arg-type]

    if not standings:
        return finding("not measured", ()), []
    if blocks and len(standings) > 1:
        return finding("blocked", standings, blocks=blocks), []
    ranking = sorted(standings, key=lambda one: one.mean, reverse=aim.higher_is_better)
    first, *others = ranking
    ended = {"runs": len(endings[first.label]), "unfinished": _unfinished(endings[first.label])}
    if not others:
        return finding("alone", ranking, choice=first.label, **ended), []
    pairs = _contrasts(aim, ranking, measured, noise, comparison.margin)
    contrasts = tuple(one for one in pairs if one.first == first.label)
    tied = tuple(one.label for one in ranking if one.mean == first.mean)
    if len(tied) > 1:
        return finding("tied", ranking, contrasts=contrasts, tied=tied), pairs
    certainty = _certainty(contrasts)
    found = finding(
        "ranked",
        ranking,
        # Quality is no reason to choose where the difference lies within noise.
        choice=None if aim.key == "best_quality" and certainty == "no" else first.label,
        certainty=certainty,
        contrasts=contrasts,
        **ended,
    )
    needed = decisions.seeds_to_decide(
        found, measured, comparison.margin, noise.examples(first.label) if aim.of_quality else 0
    )
    return replace(found, more_seeds=needed), pairs


def _certainty(contrasts: Sequence[Contrast]) -> Certainty:
    if not all(contrast.apart for contrast in contrasts):
        return "no"
    return "yes" if all(contrast.over_runs for contrast in contrasts) else "single runs"


def _sample(aim: Aim, setting: _Setting, frame: pd.DataFrame) -> dict[object, float]:
    """A value for each run, for quality the mean of each seed: the same seed twice is one seed."""
    values: dict[object, list[float]] = {}
    column = frame[aim.column]
    for run, place in zip(setting.runs, setting.places, strict=True):
        if aim.of_speed and run.timing_untrusted:
            continue
        value = column.iloc[place]
        if not pd.isna(value):
            values.setdefault(run.seed if aim.of_quality else place, []).append(float(value))
    return {key: fmean(own) for key, own in values.items()}


def _contrasts(
    aim: Aim,
    ranking: Sequence[Standing],
    samples: Mapping[str, Mapping[object, float]],
    noise: Noise,
    margin: float,
) -> list[Contrast]:
    """Compares the settings pair by pair, the better one first, and corrects for their number."""
    first, *others = ranking
    everyone = len(ranking) <= MANY_SETTINGS
    pairs = list(combinations(ranking, 2)) if everyone else [(first, other) for other in others]
    family = len(ranking) * (len(ranking) - 1) // 2
    # Costs are compared as ratios, quality as a difference.
    ratio = aim.key != "best_quality" and all(min(one.values) > 0 for one in ranking)
    tests = [compare(samples[one.label], samples[two.label], ratio=ratio) for one, two in pairs]
    known = [test.p_value for test, _ in tests if test]
    differ = iter(holm(known, family))
    quality = aim.key == "best_quality"
    equal = iter(
        holm([test.equivalence_p(margin) for test, _ in tests if test and quality], family)
    )
    found = []
    for (one, two), (test, paired) in zip(pairs, tests, strict=True):
        estimate = one.mean / two.mean if ratio else one.mean - two.mean
        over = None
        if test:
            over = test.interval.exp() if ratio else test.interval
        within = noise.within(aim, one.label, two.label, estimate)
        p_value = next(differ) if test else None
        same = next(equal) if test and quality else None
        found.append(
            Contrast(
                first=one.label,
                second=two.label,
                scale="ratio" if ratio else "difference",
                estimate=estimate if over is None else over.estimate,
                over_runs=over,
                paired=paired,
                spread=test.error * math.sqrt(_pairs(samples[one.label], samples[two.label]))
                if test
                else None,
                within_runs=within,
                p_value=p_value,
                equivalent=None
                if same is None
                else same < 1 - CONFIDENCE and _inside(within, margin),
                ranges_overlap=ranges_overlap(one.values, two.values),
                apart=_is_apart(aim, estimate, ratio, p_value, within),
            )
        )
    return found


def compare(
    first: Mapping[object, float], second: Mapping[object, float], *, ratio: bool
) -> tuple[TTest | None, bool]:
    """Tests two settings, paired where they share seeds; of logarithms for a ratio."""
    transform = math.log if ratio else float
    shared = [key for key in first if key in second]
    if len(shared) > 1:
        return paired_test([transform(first[key]) - transform(second[key]) for key in shared]), True
    one, two = ([transform(value) for value in side.values()] for side in (first, second))
    return welch_test(one, two), False


def _pairs(first: Mapping[object, float], second: Mapping[object, float]) -> float:
    """How many pairs two samples stand for; unpaired, as many as would have their error."""
    shared = sum(key in second for key in first)
    return shared if shared > 1 else harmonic_mean((len(first), len(second)))


def _is_apart(
    aim: Aim, estimate: float, ratio: bool, p_value: float | None, within: Interval | None
) -> bool:
    nothing = 1.0 if ratio else 0.0
    if p_value is not None:
        beyond_examples = not aim.of_quality or within is None or within.excludes(nothing)
        return p_value < 1 - CONFIDENCE and beyond_examples
    if aim.of_quality or not ratio:
        return False  # one seed cannot show the noise between seeds
    far = max(estimate, 1 / estimate) >= CLOSE_RATIO
    return far and (within is None or within.excludes(nothing))


def _inside(interval: Interval | None, margin: float) -> bool:
    return interval is None or (interval.low > -margin and interval.high < margin)


def _unfinished(statuses: Sequence[str]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(status for status in statuses if status != Status.completed).items())
