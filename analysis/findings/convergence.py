"""When a training reaches its target: the one definition of convergence (docs/measures.md).

The target is a share of the best of the mean curve: of the best of all runs, which grows with
their number, most runs would fall short. A crossing lies between two evaluations, on the line
that joins them.
"""

from collections.abc import Sequence
from statistics import fmean

from analysis.reading.runs import Run

TARGET_FRACTION = 0.95
"""Share of the best of the mean curve that counts as converged."""


def target_rouge(runs: Sequence[Run]) -> float | None:
    """The `rouge_f1` that counts as converged; None where nothing was learnt.

    Args:
        runs: Of one training; those that did not complete are passed over.
    """
    curve = mean_curve(runs)
    if not curve or max(curve.values()) <= curve[min(curve)]:
        return None
    return TARGET_FRACTION * max(curve.values())


def mean_curve(runs: Sequence[Run]) -> dict[float, float]:
    """The mean `rouge_f1` of the completed runs at each step that at least half of them have."""
    courses = [
        {row["step"]: row["rouge_f1"] for row in run.evaluations}
        for run in runs
        if run.completed and run.evaluations
    ]
    found: dict[float, list[float]] = {}
    for course in courses:
        for step, score in course.items():
            found.setdefault(step, []).append(score)
    return {
        step: fmean(scores)
        for step, scores in sorted(found.items())
        if 2 * len(scores) >= len(courses)
    }


def crossing(run: Run, target: float | None, clock: str) -> float | None:
    """Where a run's `rouge_f1` first reaches a target, on the line between two evaluations.

    Args:
        run: With its evaluations in order.
        target: ROUGE F1.
        clock: "step", or "train_time_s" for seconds of training.

    Returns:
        Steps or seconds; None where it never does.
    """
    if target is None:
        return None
    before = None
    for row in run.evaluations:
        if row["rouge_f1"] >= target:
            if before is None:
                return row[clock]
            share = (target - before["rouge_f1"]) / (row["rouge_f1"] - before["rouge_f1"])
            return before[clock] + share * (row[clock] - before[clock])
        before = row
    return None


def pooled_steps(runs: Sequence[Run], target: float | None) -> float | None:
    """Optimizer steps to the target in the mean over the completed runs of one training.

    None where fewer than half of them reach it.
    """
    completed = [run for run in runs if run.completed and run.evaluations]
    steps = [at for run in completed if (at := crossing(run, target, "step")) is not None]
    return fmean(steps) if steps and 2 * len(steps) >= len(completed) else None
