"""The gradient noise scale: the number of examples a step beyond which more help little.

Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", arXiv:1812.06162,
section 2.2 and appendix A.1.
"""

import math

import torch
from torch import Tensor, nn

DECAY = 0.95
"""Decay of the moving averages; about the last 20 measured steps count."""

EVERY = 5
"""Every fifth step is measured, since the norm of a part takes time; the first one is."""


def measured_part(step: int, micro_batches: int) -> int | None:
    """The number of micro-batches after which the gradient's norm is measured in a step.

    Another one from one measured step to the next, at most half of the micro-batches: the planner
    puts the longest examples first.

    Args:
        step: The optimizer step, from 0.
        micro_batches: How many it has.

    Returns:
        The number, from 1; None where the step is not measured, or has no part.
    """
    if step % EVERY or micro_batches < 2:
        return None
    return 1 + step // EVERY % (micro_batches // 2)


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of the gradient that has been accumulated so far, on the device of the gradient."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


class NoiseScale:
    """Estimates tr(S) / |G|^2, in examples, from the norms of a part's and a step's gradient.

    With b examples in the part and B in the step, the paper's unbiased estimates of one step are

        |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b)
        tr(S) = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)

    Their ratio is biased, so each is averaged over the steps before they are divided. The estimate
    assumes that the part is a random one. Packings other than `none` put examples of like length
    into a micro-batch, so with them it is an upper bound.
    """

    def __init__(self) -> None:
        self._squared_gradient = 0.0
        self._trace = 0.0
        self._steps = 0

    def add(
        self, part_examples: int, part_norm: float, step_examples: int, step_norm: float
    ) -> None:
        """Adds one step: the norms of the mean gradients of a part of it and of all of it.

        A step is left out if its gradient overflowed.
        """
        if not math.isfinite(part_norm) or not math.isfinite(step_norm):
            return
        part, step = part_norm**2, step_norm**2
        squared_gradient = (step_examples * step - part_examples * part) / (
            step_examples - part_examples
        )
        trace = (part - step) / (1 / part_examples - 1 / step_examples)
        self._squared_gradient += (1 - DECAY) * (squared_gradient - self._squared_gradient)
        self._trace += (1 - DECAY) * (trace - self._trace)
        self._steps += 1

    @property
    def examples(self) -> float | None:
        """The estimate; None without steps, or if the noise hides the gradient."""
        # Both averages started at 0 and are too small by the same factor, which cancels.
        if self._steps == 0 or self._squared_gradient <= 0:
            return None
        return max(self._trace, 0.0) / self._squared_gradient

    def state(self) -> list[float]:
        """The state for a checkpoint."""
        return [self._squared_gradient, self._trace, self._steps]

    def restore(self, state: list[float]) -> None:
        """Restores the state of a checkpoint."""
        self._squared_gradient, self._trace, self._steps = state[0], state[1], int(state[2])
