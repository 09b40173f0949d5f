"""The language-model head with its cross-entropy, a slice of positions at a time.

The logits of all positions never exist together. Each slice makes its logits, computes the loss and
the gradient from them at once, and drops them. So the memory of the head does not depend on the
number of positions, and only the gradient of its weight depends on the vocabulary. Nothing is
computed twice: an operation after a sum only scales the gradient of the sum.
Source: Hsu et al. 2024, Liger Kernel, section 3.2, arXiv:2410.10989.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from batchopt.step import tables

SLICE_BYTES = {"cpu": 2**24}
"""Bytes of the float32 logits of one slice, by device. Smaller slices are slower, larger ones no
faster (docs/benchmarks.md)."""

GPU_SLICE_BYTES = 2**28
"""A GPU needs more work at once."""

GPU_SLICE_ROWS = 2048
"""A slice has no fewer positions on a GPU: each adds a gradient as large as the whole weight."""

ALIGNED = 64
"""Tensor cores want sizes that are multiples of this many elements or fewer: of a vocabulary of
50,265 they compute the products several times slower than of 50,304 (https://docs.nvidia.com/
deeplearning/performance/dl-performance-matrix-multiplication)."""


@dataclass(frozen=True, slots=True)
class Head:
    """Makes logits from the states of the decoder: scale * states @ weight.T + bias.

    `weight` is (vocabulary, width), `bias` (vocabulary). With a `softcap` c the logits are
    c * tanh(logits / c). Source: https://arxiv.org/abs/2408.00118, section 2.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None = None


def find_head(model: nn.Module) -> Head:
    """Finds the head of a model of transformers.

    A layer of LoRA around the head is refused: its weight is not all that makes the logits, and at
    first, with one factor zero, a comparison of the logits would not show it. The weight of peft's
    wrapper for new tokens is all, made of the frozen and of the trained rows, with a gradient.

    Raises:
        TypeError: The head is not a linear layer.
    """
    unknown: Any = model
    linear = unknown.get_output_embeddings()
    name = type(linear).__name__
    if not isinstance(linear, nn.Linear) and name != "TrainableTokensWrapper":
        raise TypeError(f"the head is {name}, not a linear layer")
    # Models like BART add a buffer to the logits; models like T5 scale the states if weights are
    # tied.
    added: Tensor | None = getattr(model, "final_logits_bias", None)
    bias: Tensor | None = getattr(linear, "original_module", linear).bias
    if added is not None:
        bias = added.flatten() if bias is None else bias + added.flatten()
    return Head(linear.weight, bias, *_scale_and_softcap(unknown.config))


def _scale_and_softcap(config: Any) -> tuple[float, float | None]:
    """What a model does to its logits, by the names that configs have for it."""
    if getattr(config, "scale_decoder_outputs", False):  # T5
        return config.d_model**-0.5, None
    texts = getattr(config, "text_config", config)  # a model of texts and images has both
    scale = getattr(texts, "logit_scale", None) or 1.0  # Cohere
    divisor = getattr(texts, "logits_scaling", None)  # Granite divides, HyperCLOVA X multiplies
    if divisor is not None:
        scale = divisor if texts.model_type.startswith("hyperclovax") else 1 / divisor
    return float(scale), getattr(texts, "final_logit_softcapping", None)  # Gemma


def sliced_loss_sum(
    states: Tensor,
    head: Head,
    targets: Tensor,
    label_smoothing: float = 0.0,
    factor: float | None = None,
) -> Tensor:
    """Sums the cross-entropy over positions, each of which has a target.

    Args:
        states: The last hidden states of the decoder (positions, width).
        head: Turns them into logits.
        targets: (positions).
        label_smoothing: Weight of the uniform distribution over the vocabulary.
        factor: Of the sum in the loss that `backward` will be called on. Given, the gradient of the
            weight is added to its `.grad` here, without a copy as large as the weight (`tables`).

    Returns:
        A scalar in nats, in float32. Its gradient can be taken once.
    """
    if not (head.weight.is_leaf and head.weight.requires_grad and torch.is_grad_enabled()):
        factor = None
    if head.scale != 1:
        states = states * head.scale
    apply: Any = _SlicedCrossEntropy.apply
    # Inside a Function gradients are off, so it must be told.
    wanted = torch.is_grad_enabled()
    loss: Tensor = apply(
        states, head.weight, head.bias, targets, label_smoothing, head.softcap, wanted, factor
    )
    return loss


def _slice_rows(device: str, vocabulary: int) -> int:
    """How many positions a slice has."""
    if device in SLICE_BYTES:
        return max(1, SLICE_BYTES[device] // (4 * vocabulary))
    return max(GPU_SLICE_ROWS, GPU_SLICE_BYTES // (4 * vocabulary))


def _as_kernel(weight: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """The weight in another precision, with so many rows: those beyond its own are zeros."""
    if rows == len(weight):
        return weight.to(dtype)
    kernel = weight.new_zeros(rows, weight.shape[1], dtype=dtype)
    kernel[: len(weight)] = weight
    return kernel


def finish(logits: Tensor, bias: Tensor | None, softcap: float | None) -> None:
    """Makes logits of the products of states and weight, in place."""
    if bias is not None:
        logits += bias
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)


def _uncap(error: Tensor, logits: Tensor, softcap: float | None) -> None:
    """Turns the gradient of capped logits into that of the logits before, in place."""
    if softcap is not None:
        error *= 1 - (logits.float() / softcap).square()


def _error(log_p: Tensor, targets: Tensor, label_smoothing: float, vocabulary: int) -> Tensor:
    """D loss / d logits = p - q, where q is the target's smoothed distribution; takes `log_p`."""
    error = log_p.exp_()
    error.scatter_(1, targets, label_smoothing - 1, reduce="add")
    if label_smoothing:
        error[:, :vocabulary] -= label_smoothing / vocabulary
    return error


def _add_product(total: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    """Adds factor * left @ right to the total, which may be of another precision."""
    if left.dtype == total.dtype:
        total.addmm_(left, right, alpha=factor)
    else:
        total.add_(left @ right, alpha=factor)


class _SlicedCrossEntropy(torch.autograd.Function):
    """Computes the gradient while the logits exist; `backward` only scales it."""

    @staticmethod
    def forward(  # noqa: PLR0912, PLR0917 - one loop; autograd passes them by position
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        softcap: float | None,
        gradient_wanted: bool,
        factor: float | None,
    ) -> Tensor:
        device = states.device.type
        dtype = weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        vocabulary, width = weight.shape
        size = _slice_rows(device, vocabulary)
        rows = vocabulary
        if device != "cpu" and dtype != weight.dtype:  # the weight is copied all the same
            rows = -(-vocabulary // ALIGNED) * ALIGNED
        loss = torch.zeros((), device=states.device)
        # A frozen head (an adapter's, BART's buffer) needs no gradient: a third of the products.
        of_states, of_weight, of_bias = None, None, None
        wanted = [gradient_wanted and needed for needed in ctx.needs_input_grad[:3]]
        if wanted[0]:
            of_states = torch.empty_like(states)
        if wanted[1] and factor is None:
            of_weight = weight.new_zeros(rows, width)
        elif wanted[1]:
            of_weight, rows = tables.gradient(weight), vocabulary
        if wanted[2] and bias is not None:
            of_bias = torch.zeros_like(bias)
        returned = None if of_weight is None or factor is not None else of_weight[:vocabulary]
        ctx.gradients = of_states, returned, of_bias
        ctx.factor = factor
        with torch.autocast(device, enabled=False):
            kernel = _as_kernel(weight, rows, dtype)
            for start in range(0, len(targets), size):
                part = slice(start, start + size)
                inputs, of_target = states[part].to(dtype), targets[part, None]
                logits = inputs @ kernel.T
                if rows > vocabulary:
                    logits[:, vocabulary:] = -torch.inf  # no probability, and so no gradient
                words = logits[:, :vocabulary]
                finish(words, bias, softcap)
                log_p = logits.log_softmax(1, dtype=torch.float32)
                loss -= (1 - label_smoothing) * log_p.gather(1, of_target).sum()
                if label_smoothing:
                    loss -= label_smoothing * log_p[:, :vocabulary].mean(1).sum()
                if not any(wanted):
                    continue
                error = _error(log_p, of_target, label_smoothing, vocabulary)
                _uncap(error[:, :vocabulary], words, softcap)
                if of_bias is not None:
                    of_bias += error[:, :vocabulary].sum(0)
                error = error.to(dtype)
                if of_states is not None:
                    of_states[part] = error @ kernel
                if of_weight is not None:
                    _add_product(of_weight, error.T, inputs, 1.0 if factor is None else factor)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        # No reference is kept, so that autograd takes these tensors as gradients without a copy.
        gradients, ctx.gradients = ctx.gradients, None
        if ctx.factor is not None and not math.isclose(ctx.factor, float(factor), rel_tol=1e-6):
            raise RuntimeError(
                f"the loss was multiplied by {float(factor)} and not by {ctx.factor}, with which "
                "its gradient has been added already"
            )
        scaled = [None if gradient is None else gradient.mul_(factor) for gradient in gradients]
        return (*scaled, None, None, None, None, None)
