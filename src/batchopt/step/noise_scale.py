"""The gradient noise scale: how many examples a step needs before more of them stop helping.

Source: McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", arXiv:1812.06162,
section 2.2 and appendix A.1.
"""

import math

import torch
from torch import Tensor, nn

DECAY = 0.95
"""Of the moving averages; about the last 20 steps count."""


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of everything that has been added up in the gradients so far, on their device."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


class NoiseScale:
    """Estimates tr(S) / |G|^2, in examples, from the norms of a part's and a step's gradient.

    With b examples in the part and B in the step, the paper's unbiased estimates of one step are

        |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b)
        tr(S) = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)

    Their ratio is not unbiased, so each is averaged over the steps before they are divided. The
    estimate takes the part for a random one. Micro-batches that are cut by length hold examples
    that are alike, so with any packing but `none` it is an upper bound.
    """

    def __init__(self) -> None:
        self._squared_gradient = 0.0
        self._trace = 0.0
        self._steps = 0

    def add(
        self, part_examples: int, part_norm: float, step_examples: int, step_norm: float
    ) -> None:
        """Takes one step: the norms of the mean gradients of a part of it and of all of it.

        A step whose gradient overflowed says nothing and is left out.
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
        """The estimate; None without steps, or where the noise hides the gradient altogether."""
        # Both averages started from 0 and are too small by the same factor, which cancels.
        if self._steps == 0 or self._squared_gradient <= 0:
            return None
        return max(self._trace, 0.0) / self._squared_gradient

    def state(self) -> list[float]:
        """What a checkpoint keeps."""
        return [self._squared_gradient, self._trace, self._steps]

    def restore(self, state: list[float]) -> None:
        """Goes on from what a checkpoint kept."""
        self._squared_gradient, self._trace, self._steps = state[0], state[1], int(state[2])
