"""How attention is computed, and what a model's can do: joined rows kept apart, and fp32."""

import os
from typing import Any

import torch
from torch import Tensor

from batchopt.errors import first_line
from batchopt.step.architecture import DECODER_ONLY, Row, architecture_of, twin, unwrapped

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2.0**-8, torch.bfloat16: 2.0**-5}
"""The largest difference, relative to the largest hidden state. Of half precisions eight times
their rounding."""

LENGTHS = (40, 2, 24)
"""Tokens of the rows that are tried."""

CUDNN_SETTINGS = ("TORCH_CUDNN_SDPA_DEPRIORITIZED", "TORCH_CUDNN_SDPA_AVOID_RECOMPILE")
"""Variables by which a person decides about cuDNN's attention."""


def leave_cudnn() -> None:
    """Has torch compute attention without cuDNN, unless the environment decides about it.

    On Hopper and Blackwell torch prefers cuDNN, which builds a plan for each shape: up to a second
    for one that a process has not seen. Batches of dialogues have new shapes all the time, and so
    has each token that is generated.
    Source: https://github.com/modelscope/FunASR/issues/3704 (torch 2.11, B200), and docs/log.md.
    """
    if not any(name in os.environ for name in CUDNN_SETTINGS):
        torch.backends.cuda.enable_cudnn_sdp(False)


def is_flash(model: Any) -> bool:
    """Whether its attention is a flash attention, which has no fp32."""
    return "flash" in (getattr(unwrapped(model).config, "_attn_implementation", None) or "")


def leave_flash(model: Any) -> None:
    """Has a model that is the caller's own compute a flash attention with torch instead.

    The operations are the same; torch has them in fp32, and for tensors without content.
    """
    if is_flash(model):
        model.set_attn_implementation("sdpa")


def computable(model: Any) -> torch.autocast:
    """A context for a pass outside the training: in bf16 if the attention has no fp32."""
    device = next(model.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=is_flash(model))


def why_not_joined(model: Any, precision: torch.dtype = torch.float32) -> str:
    """Says why joined rows would train another loss than padded ones; empty if they do not.

    transformers tells joined rows apart by `position_ids`, which begin again at 0 with each. A
    model with positions of its own making (ALiBi, a recurrent state, somebody's code) reads on into
    the row before, without a word, and so does an attention that does not look at them. So the last
    hidden states of a few rows are compared, joined and padded.

    Args:
        model: As it will be trained, on its device. It is not changed.
        precision: The coarsest in which its layers compute.
    """
    kind = unwrapped(model).config.model_type
    if architecture_of(model) is not DECODER_ONLY:
        return f"{kind} reads dialogue and summary apart"
    vocabulary = unwrapped(model).config.get_text_config().vocab_size
    tokens = [[7 * index % vocabulary for index in range(length)] for length in LENGTHS]
    rows = [Row(input_ids=row[:-1], labels=row[-1:]) for row in tokens]
    tried = twin(model).eval()
    device = next(tried.parameters()).device

    def states(batch: dict[str, Tensor]) -> Tensor:
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.no_grad(), computable(tried):
            return DECODER_ONLY.states(tried, moved).float()

    try:
        joined = torch.split(states(DECODER_ONLY.join_rows(rows))[0], list(LENGTHS))
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{kind} does not take position_ids ({first_line(error)})"
    padded = states(DECODER_ONLY.pad_batch(rows, 0))
    largest = float(padded.abs().max())
    apart = max(
        float((ours - theirs[: len(ours)]).abs().max()) / largest
        for ours, theirs in zip(joined, padded, strict=True)
    )
    if apart <= TOLERANCE[torch.bfloat16 if is_flash(model) else precision]:
        return ""
    return (
        f"{kind} does not keep joined rows apart: their hidden states differ from those of padded "
        f"rows by {apart:.0e}"
    )
