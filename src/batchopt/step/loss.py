"""The loss that makes every cut of an optimizer step into micro-batches the same training.

The loss of a step is the mean over all its target tokens. Each micro-batch contributes its sum
over target tokens divided by the step's number of target tokens, so that the gradients add up to
the gradient of the step whatever the cut. A mean of micro-batch means is another function: it
weighs the tokens of a micro-batch with short targets more.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from batchopt.request.config import Loss, TrainingConfig
from batchopt.step.sliced_loss import find_head, sliced_loss_sum

logger = logging.getLogger(__name__)

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


def exact_loss(
    outputs: Any,
    labels: Tensor | None,
    num_items_in_batch: Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The exact loss for a Trainer of one's own: `Seq2SeqTrainer(compute_loss_func=exact_loss)`.

    The sum over the micro-batch's target tokens by the number of those of the optimizer step, which
    the Trainer counts. The Trainer's label_smoothing_factor does not reach a loss of one's own:
    `functools.partial(exact_loss, label_smoothing=0.1)` does.

    Args:
        outputs: The model's, with `logits` (batch, target length, vocabulary).
        labels: (batch, target length), -100 where there is no token.
        num_items_in_batch: Target tokens of the step; None in evaluation: those of `labels`.
        label_smoothing: As for `target_loss_sum`.

    Raises:
        ValueError: The model had no labels to make the decoder's inputs from, so that its outputs
            do not belong to them.
    """
    if labels is None or outputs.logits.shape[:2] != labels.shape:
        raise ValueError(
            "the outputs do not belong to the labels: the Trainer keeps these from the model, so "
            "the batch needs decoder_input_ids; DataCollatorForSeq2Seq(tokenizer, model=model) "
            "makes them"
        )
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return target_loss_sum(outputs.logits, labels, label_smoothing) / tokens


def micro_batch_loss(
    model: nn.Module,
    batch: dict[str, Tensor],
    step_target_tokens: int,
    label_smoothing: float = 0.0,
    *,
    sliced: bool = False,
) -> Tensor:
    """What one micro-batch contributes to the loss of its optimizer step.

    Args:
        model: As for `loss_sum`.
        batch: As for `loss_sum`.
        step_target_tokens: Target tokens of the whole step, padding left out.
        label_smoothing: As for `target_loss_sum`.
        sliced: As for `loss_sum`.
    """
    return loss_sum(model, batch, label_smoothing, sliced=sliced) / step_target_tokens


def loss_sum(
    model: nn.Module,
    batch: dict[str, Tensor],
    label_smoothing: float = 0.0,
    *,
    sliced: bool,
    encoder_outputs: Any = None,
) -> Tensor:
    """Runs encoder and decoder with teacher forcing and sums the cross-entropy.

    Args:
        model: An encoder-decoder model.
        batch: `input_ids` and `attention_mask` (batch, source length), `labels` (batch, target
            length) and, unless they are to be looked for here, the `target_positions` of these.
        label_smoothing: As for `target_loss_sum`.
        sliced: Make the logits slice by slice, of the target tokens only. The parts of the model
            are called one by one then, so what wraps `model.forward` (autocast) must be around.
        encoder_outputs: What `encode` made of this batch; None: made here.
    """
    if not sliced:
        logits = forward(model, batch, encoder_outputs)
        return target_loss_sum(logits, batch["labels"], label_smoothing)
    states = decode(
        model, batch, encode(model, batch) if encoder_outputs is None else encoder_outputs
    )
    positions = batch.get("target_positions")
    if positions is None:
        positions = target_positions(batch["labels"])
    return sliced_loss_sum(
        states.flatten(0, 1).index_select(0, positions),
        find_head(model),
        batch["labels"].flatten().index_select(0, positions),
        label_smoothing,
    )


def target_positions(labels: Tensor) -> Tensor:
    """Where the target tokens are in the flattened labels; a GPU makes its host wait for that."""
    return (labels.flatten() != IGNORED).nonzero().flatten()


def forward(model: nn.Module, batch: dict[str, Tensor], encoder_outputs: Any = None) -> Tensor:
    """The model's own logits (batch, target length, vocabulary); arguments as for `loss_sum`."""
    output = model(
        input_ids=batch["input_ids"] if encoder_outputs is None else None,
        attention_mask=batch["attention_mask"],
        encoder_outputs=encoder_outputs,
        decoder_input_ids=_shifted(model, batch),
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


def encode(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    """What the encoder makes of the sources: `last_hidden_state` and whatever else it gives."""
    encoder = _unwrapped(model).get_encoder()
    return encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def decode(model: nn.Module, batch: dict[str, Tensor], encoder_outputs: Any) -> Tensor:
    """The decoder's last hidden states (batch, target length, width)."""
    output = _unwrapped(model).get_decoder()(
        input_ids=_shifted(model, batch),
        encoder_hidden_states=encoder_outputs.last_hidden_state,
        encoder_attention_mask=batch["attention_mask"],
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states


def compile_parts(model: nn.Module) -> None:
    """Has torch.compile compile encoder and decoder, one by one: the loss is outside of both.

    `torch.compiler.set_stance("force_eager")` turns them off where shapes differ at every call.
    """
    unknown: Any = model
    unknown.get_encoder().compile()
    unknown.get_decoder().compile()


def use_slices(training: TrainingConfig, model: nn.Module) -> bool:
    """Whether to make the logits in slices: as configured, unless this model cannot.

    That its parts, called one by one, give its own logits is tried here on a few tokens.
    """
    if training.loss is not Loss.sliced:
        return False
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            reason = _unlike(model)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)
    finally:
        model.train(mode)
    if reason:
        logger.warning(
            "training.loss: %s has no head to slice (%s), so the loss is full",
            type(model).__name__,
            reason,
        )
    return not reason


def _unlike(model: nn.Module) -> str:
    """Says how logits from the model's parts differ from its own; empty where they do not."""
    device = next(model.parameters()).device
    tokens = torch.arange(8, device=device).view(2, 4)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
    head = find_head(model)
    states = decode(model, batch, encode(model, batch))
    ours = head.scale * states @ head.weight.T
    if head.bias is not None:
        ours += head.bias
    theirs = forward(model, batch)
    apart = float((ours - theirs).abs().max() / theirs.abs().max())
    return f"its logits are others, by {apart:.0e}" if apart > 1e-4 else ""


def _shifted(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The decoder's inputs. The model, given the labels, would compute a loss of its own too."""
    shifted: Tensor = _unwrapped(model).prepare_decoder_input_ids_from_labels(
        labels=batch["labels"]
    )
    return shifted


def _unwrapped(model: nn.Module) -> Any:
    """The model inside what torch.compile makes of it."""
    return getattr(model, "_orig_mod", model)
