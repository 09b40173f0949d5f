"""The language-model head with its cross-entropy, a slice of positions at a time.

The logits of all positions never exist together: each slice makes its own, takes the loss and at
once the gradient from them, and drops them. So the memory of the head depends neither on the
number of positions nor, but for the weight's own gradient, on the vocabulary. Nothing is computed
twice: whatever comes after a sum only scales its gradient.
Source: Hsu et al. 2024, Liger Kernel, section 3.2, arXiv:2410.10989.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SLICE_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Logits of one slice in float32, by device. Smaller ones are slower, larger ones no faster
(docs/benchmarks.md); a GPU wants more to do at once."""


@dataclass(frozen=True, slots=True)
class Head:
    """What makes logits from the decoder's states: scale * states @ weight.T + bias.

    `weight` is (vocabulary, width), `bias` (vocabulary).
    """

    weight: Tensor
    bias: Tensor | None
    scale: float


def find_head(model: nn.Module) -> Head:
    """The head of an encoder-decoder model, as transformers builds them.

    Raises:
        TypeError: It is not a linear layer.
    """
    unknown: Any = model
    linear = unknown.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"the head is {type(linear).__name__}, not a linear layer")
    # BART's family adds a buffer to the logits; T5's scales the states where weights are tied.
    added: Tensor | None = getattr(model, "final_logits_bias", None)
    bias: Tensor | None = linear.bias
    if added is not None:
        bias = added.flatten() if bias is None else bias + added.flatten()
    scaled = getattr(unknown.config, "scale_decoder_outputs", False)
    return Head(linear.weight, bias, unknown.config.d_model**-0.5 if scaled else 1.0)


def sliced_loss_sum(
    states: Tensor, head: Head, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Sums the cross-entropy over positions, each of which has a target.

    Args:
        states: The decoder's last hidden states (positions, width).
        head: What turns them into logits.
        targets: (positions).
        label_smoothing: Weight of the uniform distribution over the vocabulary.

    Returns:
        A scalar in nats, in float32. Its gradient can be taken once.
    """
    if head.scale != 1:
        states = states * head.scale
    apply: Any = _SlicedCrossEntropy.apply
    # Inside of a Function gradients are off, so that it has to be told.
    wanted = torch.is_grad_enabled()
    loss: Tensor = apply(states, head.weight, head.bias, targets, label_smoothing, wanted)
    return loss


class _SlicedCrossEntropy(torch.autograd.Function):
    """Takes the gradient while the logits are there; `backward` only scales it."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        gradient_wanted: bool,
    ) -> Tensor:
        device = states.device.type
        dtype = weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        size = max(1, SLICE_BYTES.get(device, 2**28) // (4 * len(weight)))
        loss = torch.zeros((), device=states.device)
        if gradient_wanted:
            of_states, of_weight = torch.zeros_like(states), torch.zeros_like(weight)
            of_bias = None if bias is None else torch.zeros_like(bias)
            ctx.gradients = of_states, of_weight, of_bias
        with torch.autocast(device, enabled=False):
            kernel = weight.to(dtype)
            for start in range(0, len(targets), size):
                rows = slice(start, start + size)
                inputs, of_target = states[rows].to(dtype), targets[rows, None]
                logits = inputs @ kernel.T
                if bias is not None:
                    logits += bias
                log_p = logits.log_softmax(1, dtype=torch.float32)
                loss -= (1 - label_smoothing) * log_p.gather(1, of_target).sum()
                if label_smoothing:
                    loss -= label_smoothing * log_p.mean(1).sum()
                if not gradient_wanted:
                    continue
                # d loss / d logits = p - q, where q is the target's smoothed distribution
                error = log_p.exp_()
                error.scatter_(1, of_target, label_smoothing - 1, reduce="add")
                if label_smoothing:
                    error -= label_smoothing / len(weight)
                if of_bias is not None:
                    of_bias += error.sum(0)
                error = error.to(dtype)
                of_states[rows] = error @ kernel
                if dtype == of_weight.dtype:
                    of_weight.addmm_(error.T, inputs)
                else:
                    of_weight += error.T @ inputs
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # Let go of here, so that autograd keeps the very tensors as gradients and copies none.
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [None if gradient is None else gradient.mul_(factor) for gradient in gradients]
        return (*scaled, None, None, None)
