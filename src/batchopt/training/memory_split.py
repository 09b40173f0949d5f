"""What a training keeps in memory, as far as it can be counted: weights, gradients, optimizer."""

from typing import Any

import torch
from torch import Tensor


def weight_bytes(model: Any) -> dict[str, int]:
    """Metrics: bytes of the weights that are frozen, of those that are trained, of their gradients.

    Quantised weights count with their scales.
    """
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    scales: list[Tensor] = []
    for weight in frozen:  # of 4 bits
        state = getattr(weight, "quant_state", None)
        if state is not None:
            scales += [state.absmax, *([state.state2.absmax] if state.nested else [])]
    for module in model.modules():  # of 8 bits
        found = getattr(getattr(module, "state", None), "SCB", None)
        scales += [found] if isinstance(found, Tensor) else []
    trained = _bytes(weight for weight in model.parameters() if weight.requires_grad)
    return {
        "frozen_weights_bytes": _bytes([*frozen, *scales]),
        "trained_weights_bytes": trained,
        "gradients_bytes": trained,
    }


def optimizer_bytes(optimizer: torch.optim.Optimizer | None) -> int | None:
    """Bytes of the tensors that an optimizer keeps; None before its first step."""
    state = getattr(getattr(optimizer, "optimizer", optimizer), "state", None)  # accelerate's
    tensors = [one for kept in (state or {}).values() for one in _tensors(kept)]
    return _bytes(tensors) or None


def _tensors(kept: Any) -> list[Tensor]:
    if isinstance(kept, Tensor):
        return [kept]
    if isinstance(kept, dict):
        return [one for value in kept.values() for one in _tensors(value)]
    return []


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in {id(one): one for one in tensors}.values())
