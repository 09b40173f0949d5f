"""The exact loss: a step is the same training in whatever micro-batches.

The loss of a step is the mean over all its target tokens. Each micro-batch contributes the sum over
its target tokens divided by the number of target tokens of the step. So the gradients add up to
the gradient of the step, however it is divided. A mean of micro-batch means is another function: it
gives more weight to the tokens of a micro-batch with short targets.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from batchopt.request.config import Loss, TrainingConfig
from batchopt.step.architecture import IGNORED, architecture_of, target_positions, twin
from batchopt.step.attention import computable
from batchopt.step.sliced_loss import find_head, finish, sliced_loss_sum

logger = logging.getLogger(__name__)


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


def exact_loss(
    outputs: Any,
    labels: Tensor | None,
    num_items_in_batch: Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The exact loss for your own Trainer: `Seq2SeqTrainer(compute_loss_func=exact_loss)`.

    The sum over the target tokens of the micro-batch, divided by the number of target tokens of the
    optimizer step, which the Trainer counts. The label_smoothing_factor of the Trainer does not
    reach this loss; pass `functools.partial(exact_loss, label_smoothing=0.1)` instead.

    For a decoder-only model it moves the labels by one, as the Trainer does, whose own loss of such
    a model is exact as well.

    Args:
        outputs: Of the model, with `logits` (batch, length, vocabulary).
        labels: (batch, length), -100 where there is no token.
        num_items_in_batch: Target tokens of the step; None (in evaluation): those of `labels`.
        label_smoothing: See `target_loss_sum`.

    Raises:
        ValueError: The outputs do not belong to the labels, because the model got neither labels
            nor decoder_input_ids.
    """
    if labels is None or outputs.logits.shape[:2] != labels.shape:
        raise ValueError(
            "the outputs do not belong to the labels: the Trainer keeps these from the model, so "
            "the batch needs decoder_input_ids; DataCollatorForSeq2Seq(tokenizer, model=model) "
            "makes them"
        )
    if not hasattr(outputs, "encoder_last_hidden_state"):  # a decoder-only model
        # Moving the labels copies them; moving the logits would copy the largest tensor of all.
        labels = nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return target_loss_sum(outputs.logits, labels, label_smoothing) / tokens


def micro_batch_loss(
    model: nn.Module,
    batch: dict[str, Tensor],
    step_target_tokens: int,
    label_smoothing: float = 0.0,
    *,
    sliced: bool = False,
    in_place: bool = False,
) -> Tensor:
    """The contribution of one micro-batch to the loss of its optimizer step.

    Args:
        model: See `loss_sum`.
        batch: See `loss_sum`.
        step_target_tokens: Target tokens of the whole step, without padding.
        label_smoothing: See `target_loss_sum`.
        sliced: See `loss_sum`.
        in_place: Add the gradient of a head in slices to its `.grad` already here. For a caller who
            calls `backward` on the result as it is, without a factor.
    """
    factor = 1 / step_target_tokens if in_place else None
    loss = loss_sum(model, batch, label_smoothing, sliced=sliced, factor=factor)
    return loss / step_target_tokens


def loss_sum(
    model: nn.Module,
    batch: dict[str, Tensor],
    label_smoothing: float = 0.0,
    *,
    sliced: bool,
    encoded: Any = None,
    factor: float | None = None,
) -> Tensor:
    """Runs the model with teacher forcing and sums the cross-entropy.

    Args:
        model: A model of transformers.
        batch: What `pad_batch` of its architecture returns; `target_positions` may be missing,
            and are then searched here.
        label_smoothing: See `target_loss_sum`.
        sliced: Make the logits slice by slice, of the target tokens only. The parts of the model
            are then called one by one, so a context that wraps `model.forward` (autocast) must be
            entered by the caller.
        encoded: The result of `encode` of the architecture for this batch; None: made here.
        factor: See `sliced_loss_sum`.
    """
    architecture = architecture_of(model)
    if not sliced:
        logits = architecture.logits(model, batch, encoded)
        return target_loss_sum(logits, batch["labels"], label_smoothing)
    states = architecture.states(model, batch, encoded)
    positions = batch.get("target_positions")
    if positions is None:
        positions = target_positions(batch["labels"])
    return sliced_loss_sum(
        states.flatten(0, 1).index_select(0, positions),
        find_head(model),
        batch["labels"].flatten().index_select(0, positions),
        label_smoothing,
        factor,
    )


def compile_parts(model: nn.Module) -> None:
    """Compiles what is below the head with torch.compile, so the loss can be in slices.

    In `torch.compiler.set_stance("force_eager")` it runs as if it were not compiled.
    """
    for trunk in architecture_of(model).trunks(model):
        trunk.compile()


def use_slices(training: TrainingConfig, model: nn.Module) -> bool:
    """Whether to make the logits in slices: as configured, unless the model does not allow it.

    A copy of the model tries on a few tokens whether its parts, called one by one, give the logits
    of the whole.
    """
    if training.loss is not Loss.sliced:
        return False
    try:
        with torch.no_grad(), computable(model):
            reason = _unlike(twin(model).eval())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)
    if reason:
        logger.warning(
            "training.loss: %s has no head that can be sliced (%s), so the loss is full",
            type(model).__name__,
            reason,
        )
    return not reason


def _unlike(model: nn.Module) -> str:
    """Says how the logits from the parts of the model differ from its own; empty if they do not."""
    device = next(model.parameters()).device
    tokens = torch.arange(8, device=device).view(2, 4)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
    head = find_head(model)
    architecture = architecture_of(model)
    ours = head.scale * architecture.states(model, batch) @ head.weight.T
    finish(ours, head.bias, head.softcap)
    theirs = architecture.logits(model, batch)
    apart = float((ours - theirs).abs().max() / theirs.abs().max())
    return f"its logits are others, by {apart:.0e}" if apart > 1e-4 else ""
