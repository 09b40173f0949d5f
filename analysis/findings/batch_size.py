"""Whether the effective batch itself looks small or large for this problem.

The gradient noise scale is the number of examples at which the noise of a step's gradient is as
large as the gradient. Far below it, twice the batch saves almost half of the steps; far above it,
nearly none. Source: McCandlish et al. 2018, arXiv:1812.06162, section 2.2.
"""

from collections.abc import Sequence
from statistics import median
from typing import Literal

from analysis.findings.facts import BatchSize
from analysis.reading.runs import Run

FAR = 2.0
"""A batch this many times below or above the noise scale is called small or large."""


def judge_batch_size(runs: Sequence[Run], batch: int | None) -> BatchSize | None:
    """Says how the effective batch lies to the noise scale.

    Args:
        runs: All runs; those without an estimate are passed over.
        batch: Examples of one optimizer step.

    Returns:
        None where no run of that batch has an estimate.
    """
    measured = [
        run
        for run in runs
        if run.metrics.get("gradient_noise_scale") is not None
        and run.plan.get("effective_batch_size") == batch
    ]
    if batch is None or not measured:
        return None
    # Parts of a step that were cut by length are no random parts: the estimate is too high.
    random_parts = [run for run in measured if run.plan.get("packing") == "none"]
    chosen = random_parts or measured
    scale = median(float(run.metrics["gradient_noise_scale"]) for run in chosen)
    verdict: Literal["large", "small", "neither", "open"]
    if batch > FAR * scale:
        verdict = "large"
    elif not random_parts:
        verdict = "open"
    else:
        verdict = "small" if batch * FAR < scale else "neither"
    return BatchSize(batch, scale, len(chosen), not random_parts, verdict)
