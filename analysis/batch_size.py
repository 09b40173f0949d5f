"""Whether the effective batch itself looks small or large for this problem.

The gradient noise scale is the number of examples at which the noise of a step's gradient is as
large as the gradient. Far below it, twice the batch saves almost half of the steps; far above it,
nearly none. Source: McCandlish et al. 2018, arXiv:1812.06162, section 2.2.
"""

from collections.abc import Sequence
from statistics import median

from analysis.read import Run
from analysis.text import number, plural

FAR = 2.0
"""A batch this many times below or above the noise scale is called small or large."""


def judge_batch_size(runs: Sequence[Run], batch: int | None) -> str | None:
    """Says in a sentence or two how the effective batch lies to the noise scale.

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
    # The record holds a moving average, and the noise grows as the loss falls.
    count = f"median of {plural(len(chosen), 'run')}, over their last steps"
    if random_parts:
        seen = f"The gradient noise scale was {number(scale, 2)} examples ({count})."
    else:
        seen = (
            f"The gradient noise scale was at most {number(scale, 2)} examples ({count}; an upper "
            "bound, since the micro-batches were cut by length)."
        )
    if batch > FAR * scale:
        verdict = (
            f"An effective batch of {batch} looks large for this stage of training: a smaller one "
            "would need hardly more optimizer steps."
        )
    elif not random_parts:
        verdict = (
            f"Whether {batch} is too small it cannot say; runs with batch.packing=none measure it."
        )
    elif batch * FAR < scale:
        verdict = (
            f"An effective batch of {batch} looks small for this stage of training: a larger one "
            "would need clearly fewer optimizer steps."
        )
    else:
        verdict = f"An effective batch of {batch} is of that size: neither small nor large."
    return f"{seen} {verdict}"
