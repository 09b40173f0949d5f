"""What to do with the findings of a comparison: the knee, the budget, the next seeds.

Costs are the means of a setting's completed runs, as they stand under the aims; quality counts
only where some difference in it is beyond the noise.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.findings.facts import (
    Budget,
    Comparison,
    Contrast,
    Costs,
    Finding,
    Knee,
    MoreSeeds,
    Payback,
)
from analysis.findings.statistics import pairs_to_equate, pairs_to_tell
from analysis.findings.thresholds import CLOSE_RATIO
from analysis.reading.runs import Run
from batchopt.record.statuses import Status

KNEE_TOLERANCE = 0.05
"""Of the fastest's speed: what one may give up for less memory."""

ALPHA = 0.05
SEED_LIMIT = 100
FIRST_SEEDS = 3
"""What shows some spread where one seed shows none."""


def decide(
    comparison: Comparison,
    runs: Sequence[Run],
    endings: Mapping[str, Sequence[str]],
    memory_budget_gib: float | None,
) -> Comparison:
    """Adds what follows from the findings of the aims.

    Args:
        comparison: With its aims judged.
        runs: All runs of the comparison.
        endings: The statuses of each setting's runs.
        memory_budget_gib: What a device has, where a person names it.
    """
    costs = _costs(comparison)
    ranked_speed = not comparison.blocks_speed
    ranked = ranked_speed and not comparison.blocks_memory
    return replace(
        comparison,
        knee=find_knee(costs) if ranked else None,
        budget=None
        if memory_budget_gib is None or comparison.blocks_memory
        else find_budget(costs, memory_budget_gib, endings),
        payback=find_payback(comparison, costs, runs) if ranked_speed else None,
    )


def _costs(comparison: Comparison) -> list[Costs]:
    columns = ("steps_per_second", "peak_memory_gib", "best_rouge_f1")
    means: dict[str, dict[str, float]] = {}
    for finding in comparison.aims:
        if finding.aim.column in columns:
            for standing in finding.ranking:
                means.setdefault(standing.label, {})[finding.aim.column] = standing.mean
    return [Costs(label, *(own.get(column) for column in columns)) for label, own in means.items()]


def find_knee(costs: Iterable[Costs]) -> Knee | None:
    """The least memory among the settings that are nearly as fast as the fastest."""
    measured = [one for one in costs if one.steps_per_second and one.peak_memory_gib]
    if len(measured) < 2:
        return None
    fastest = max(measured, key=_speed)
    near = [one for one in measured if _speed(one) >= (1 - KNEE_TOLERANCE) * _speed(fastest)]
    return Knee(min(near, key=_memory), fastest, KNEE_TOLERANCE)


def find_budget(costs: Iterable[Costs], gib: float, endings: Mapping[str, Sequence[str]]) -> Budget:
    """The fastest setting whose measured peak fits into so much memory."""
    measured = [one for one in costs if one.peak_memory_gib]
    fitting = [one for one in measured if _memory(one) <= gib]
    return Budget(
        gib=gib,
        choice=max(fitting, key=_speed, default=None),
        fitting=len(fitting),
        too_large=tuple(one for one in measured if _memory(one) > gib),
        out_of_memory=tuple(label for label, own in endings.items() if Status.oom in own),
    )


def find_payback(
    comparison: Comparison, costs: Iterable[Costs], runs: Sequence[Run]
) -> Payback | None:
    """Whether the sweep paid, where a fastest setting was found."""
    fastest = next(one for one in comparison.aims if one.aim.key == "fastest")
    if fastest.choice is None or fastest.certainty == "no":
        return None
    seconds = {one.label: 1000 / _speed(one) for one in costs if one.steps_per_second}
    best = seconds[fastest.choice]
    saving = sum(seconds.values()) / len(seconds) - best
    cost = sum(run.metrics.get("total_time_s") or 0.0 for run in runs)
    if saving <= 0 or not cost:
        return None
    return Payback(
        choice=fastest.choice,
        cost_s=cost,
        saving_s=saving,
        most_s=max(seconds.values()) - best,
        break_even_steps=1000 * cost / saving,
    )


def seeds_to_decide(
    finding: Finding, samples: Mapping[str, Mapping[object, float]], margin: float, examples: int
) -> MoreSeeds | None:
    """How many seeds would decide an aim; None where it is decided, or the settings are the same.

    From the spread that was seen: enough to show a difference as large as the one observed, or,
    where that would not matter, to show that there is none.

    Args:
        finding: With its contrasts.
        samples: The values of each setting, by seed or by run.
        margin: Differences of quality within it do not matter.
        examples: Validation examples behind the quality; 0: not known.
    """
    open_ones = [one for one in finding.contrasts if not one.equivalent]
    if finding.certainty == "yes" or not open_ones:
        return None
    have = min(len(samples[label]) for one in open_ones for label in (one.first, one.second))
    if any(one.spread is None for one in open_ones):
        return MoreSeeds(have, max(FIRST_SEEDS, have + 1), SEED_LIMIT, variance_known=False)
    pairs = len(finding.ranking) * (len(finding.ranking) - 1) // 2
    counts = [_pairs_needed(one, margin, ALPHA / pairs) for one in open_ones if not one.apart]
    # The test was made with what there is and did not decide.
    known = [max(count, have + 1) for count in counts if count is not None]
    return MoreSeeds(
        have,
        max(known, default=have + 1) if len(known) == len(counts) else None,
        SEED_LIMIT,
        variance_known=True,
        examples=_examples_needed(finding, margin, examples),
    )


def _pairs_needed(contrast: Contrast, margin: float, alpha: float) -> int | None:
    estimate, matters = contrast.estimate, margin
    if contrast.scale == "ratio":
        estimate, matters = math.log(contrast.estimate), math.log(CLOSE_RATIO)
    assert contrast.spread is not None
    if abs(estimate) > matters:
        return pairs_to_tell(contrast.spread, abs(estimate), alpha=alpha, limit=SEED_LIMIT)
    return pairs_to_equate(contrast.spread, matters, alpha=alpha, limit=SEED_LIMIT)


def _examples_needed(finding: Finding, margin: float, examples: int) -> int | None:
    """How many validation examples show what matters, where those that were used cannot.

    The interval shrinks with the square root of their number.
    """
    needed = [0.0]
    for contrast in finding.contrasts:
        within = contrast.within_runs
        if finding.aim.key != "best_quality" or contrast.apart or within is None:
            continue
        matters = max(margin, abs(contrast.estimate))
        half = (within.high - within.low) / 2
        if half > matters:
            needed.append(examples * (half / matters) ** 2)
    return math.ceil(max(needed)) or None


def _speed(costs: Costs) -> float:
    return costs.steps_per_second or 0.0


def _memory(costs: Costs) -> float:
    return costs.peak_memory_gib or math.inf
