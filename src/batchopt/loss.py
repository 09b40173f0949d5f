"""The loss that makes every cut of an optimizer step into micro-batches the same training.

The loss of a step is the mean over all its target tokens. Each micro-batch contributes its sum
over target tokens divided by the step's number of target tokens, so that the gradients add up to
the gradient of the step whatever the cut. A mean of micro-batch means is another function: it
weighs the tokens of a micro-batch with short targets more.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

IGNORED = -100
"""Label of a padded position, as everywhere in transformers."""


def target_loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sums the cross-entropy over the target tokens.

    Args:
        logits: (batch, target length, vocabulary).
        labels: (batch, target length), `IGNORED` where there is no token.
        label_smoothing: Weight of the uniform distribution over the vocabulary.

    Returns:
        A scalar in nats, in float32 whatever the precision of the logits.
    """
    return cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def micro_batch_loss(
    model: nn.Module, batch: dict[str, Tensor], step_target_tokens: int, label_smoothing: float
) -> Tensor:
    """What one micro-batch contributes to the loss of its optimizer step.

    Args:
        model: As for `forward`.
        batch: As for `forward`.
        step_target_tokens: Target tokens of the whole step, padding left out.
        label_smoothing: As for `target_loss_sum`.
    """
    logits = forward(model, batch)
    return target_loss_sum(logits, batch["labels"], label_smoothing) / step_target_tokens


def forward(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Runs encoder and decoder with teacher forcing.

    The labels are shifted here and not given to the model, which would compute a loss of its own.

    Args:
        model: An encoder-decoder model, or a wrapper of one.
        batch: `input_ids` and `attention_mask` (batch, source length), `labels` (batch, target
            length).

    Returns:
        Logits (batch, target length, vocabulary).
    """
    unwrapped: Any = getattr(model, "_orig_mod", model)
    shift = unwrapped.prepare_decoder_input_ids_from_labels
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=shift(labels=batch["labels"]),
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


def pad(rows: list[list[int]], value: int) -> Tensor:
    """Stacks token rows of different lengths, filled up at the end with `value`."""
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
