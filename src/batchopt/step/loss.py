"""The exact loss: a step is the same training in whatever micro-batches.

The loss of a step is the mean over all its target tokens. Each micro-batch contributes the sum over
its target tokens divided by the number of target tokens of the step. So the gradients add up to
the gradient of the step, however it is divided. A mean of micro-batch means is another function: it
gives more weight to the tokens of a micro-batch with short targets.
"""

import copy
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
    """The exact loss for your own Trainer: `Seq2SeqTrainer(compute_loss_func=exact_loss)`.

    The sum over the target tokens of the micro-batch, divided by the number of target tokens of the
    optimizer step, which the Trainer counts. The label_smoothing_factor of the Trainer does not
    reach this loss; pass `functools.partial(exact_loss, label_smoothing=0.1)` instead.

    Args:
        outputs: Of the model, with `logits` (batch, target length, vocabulary).
        labels: (batch, target length), -100 where there is no token.
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
    encoder_outputs: Any = None,
    factor: float | None = None,
) -> Tensor:
    """Runs encoder and decoder with teacher forcing and sums the cross-entropy.

    Args:
        model: An encoder-decoder model.
        batch: `input_ids` and `attention_mask` (batch, source length), `labels` (batch, target
            length) and, unless they are to be searched here, `target_positions` of the labels.
        label_smoothing: See `target_loss_sum`.
        sliced: Make the logits slice by slice, of the target tokens only. The parts of the model
            are then called one by one, so a context that wraps `model.forward` (autocast) must be
            entered by the caller.
        encoder_outputs: The result of `encode` for this batch; None: made here.
        factor: See `sliced_loss_sum`.
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
        factor,
    )


def target_positions(labels: Tensor) -> Tensor:
    """Where the target tokens are in the flattened labels; a GPU makes its host wait for that."""
    return (labels.flatten() != IGNORED).nonzero().flatten()


def forward(model: nn.Module, batch: dict[str, Tensor], encoder_outputs: Any = None) -> Tensor:
    """The logits of the model (batch, target length, vocabulary); arguments as in `loss_sum`."""
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
    """The outputs of the encoder: `last_hidden_state` and the rest."""
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


def compile_parts(model: nn.Module) -> None:
    """Compiles encoder and decoder with torch.compile, one by one, so the loss can be in slices.

    In `torch.compiler.set_stance("force_eager")` they run as if they were not compiled.
    """
    unknown: Any = model
    unknown.get_encoder().compile()
    unknown.get_decoder().compile()


def use_slices(training: TrainingConfig, model: nn.Module) -> bool:
    """Whether to make the logits in slices: as configured, unless the model does not allow it.

    A copy of the model tries on a few tokens whether its parts, called one by one, give the logits
    of the whole.
    """
    if training.loss is not Loss.sliced:
        return False
    try:
        with torch.no_grad():
            reason = _unlike(_twin(model).eval())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error)
    if reason:
        logger.warning(
            "training.loss: %s has no head that can be sliced (%s), so the loss is full",
            type(model).__name__,
            reason,
        )
    return not reason


def _twin(model: nn.Module) -> nn.Module:
    """A copy of the model that shares its weights and nothing else.

    A model may change as it runs: BigBird gives up its sparse attention at the first short input.
    """
    shared = {id(weight): weight for weight in model.parameters()}
    return copy.deepcopy(model, shared)


def _unlike(model: nn.Module) -> str:
    """Says how the logits from the parts of the model differ from its own; empty if they do not."""
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
    """The model inside the wrapper of torch.compile."""
    return getattr(model, "_orig_mod", model)
