"""The loss that makes every cut of an optimizer step into micro-batches the same training.

The loss of a step is the mean over all its target tokens. Each micro-batch contributes its sum
over target tokens divided by the step's number of target tokens, so that the gradients add up to
the gradient of the step whatever the cut. A mean of micro-batch means is another function: it
weighs the tokens of a micro-batch with short targets more.
"""

import inspect
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
        model: An encoder-decoder model; a wrapper of one where it is not `sliced`.
        batch: `input_ids` and `attention_mask` (batch, source length), `labels` (batch, target
            length).
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
    real = batch["labels"] != IGNORED
    return sliced_loss_sum(states[real], find_head(model), batch["labels"][real], label_smoothing)


def forward(model: nn.Module, batch: dict[str, Tensor], encoder_outputs: Any = None) -> Tensor:
    """The model's own logits (batch, target length, vocabulary); arguments as for `loss_sum`."""
    output = model(
        input_ids=batch["input_ids"] if encoder_outputs is None else None,
        **_attention(model, batch),
        encoder_outputs=encoder_outputs,
        decoder_input_ids=decoder_inputs(model, batch["labels"]),
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


def encode(model: nn.Module, batch: dict[str, Tensor]) -> Any:
    """What the encoder makes of the sources: `last_hidden_state` and whatever else it gives."""
    encoder = _unwrapped(model).get_encoder()
    return encoder(input_ids=batch["input_ids"], **_attention(model, batch))


def decode(model: nn.Module, batch: dict[str, Tensor], encoder_outputs: Any) -> Tensor:
    """The decoder's last hidden states (batch, target length, width)."""
    output = _unwrapped(model).get_decoder()(
        input_ids=decoder_inputs(model, batch["labels"]),
        encoder_hidden_states=encoder_outputs.last_hidden_state,
        encoder_attention_mask=batch["attention_mask"],
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states


def use_slices(training: TrainingConfig, model: nn.Module) -> bool:
    """Whether to make the logits in slices: as configured, unless this model cannot.

    That its parts, called one by one, give its own logits is tried here on a few tokens.
    """
    if training.loss is not Loss.sliced:
        return False
    if training.torch_compile:
        logger.warning("training.loss: torch_compile takes the model whole, so the loss is full")
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


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """The decoder's inputs: the labels moved by one, behind the token that the decoder begins with.

    The model, given the labels, would compute a loss of its own too. FSMT writes into the labels.

    Raises:
        TypeError, ValueError: The model does not know what its decoder begins with.
    """
    whole = _unwrapped(model)
    own = getattr(whole, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        prepared: Tensor = own(labels=labels.clone())
        return prepared
    # M2M100, NLLB, NLLB-MoE, Blenderbot: they do so inside of their forward.
    start, pad = whole.config.decoder_start_token_id, whole.config.pad_token_id
    if start is None or pad is None:
        raise ValueError("the config has no decoder_start_token_id or no pad_token_id")
    moved = labels.roll(1, dims=1)
    moved[:, 0] = start
    return moved.masked_fill(moved == IGNORED, pad)


def _attention(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the encoder may attend to.

    Where attention is local and some tokens see all (LED, Longformer), that is the first one, as
    the authors do for summaries. LongT5 makes its global tokens itself.

    Source: https://arxiv.org/abs/2004.05150, section 5, and
    https://huggingface.co/docs/transformers/model_doc/led
    """
    mask = batch["attention_mask"]
    told = {"attention_mask": mask}
    encoder: Any = _unwrapped(model).get_encoder()
    if "global_attention_mask" in inspect.signature(encoder.forward).parameters:
        seen = torch.zeros_like(mask)
        seen[:, 0] = 1
        told["global_attention_mask"] = seen
    return told


def _unwrapped(model: nn.Module) -> Any:
    """The model inside what torch.compile makes of it."""
    return getattr(model, "_orig_mod", model)
