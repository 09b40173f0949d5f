"""The exact loss in the stock Trainer, for both kinds of models, without asking for arguments.

`step.loss.exact_loss` is the loss itself, as a `compute_loss_func`.
"""

import functools
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from batchopt.library.rows import is_encoder_decoder
from batchopt.step.architecture import decoder_inputs
from batchopt.step.loss import exact_loss

if TYPE_CHECKING:
    from transformers import Trainer as Base
else:
    Base = object


class ExactLoss(Base):
    """A mixin that divides the loss of each micro-batch by the target tokens of the whole step.

    A `compute_loss_func` of the Trainer's owner stays, and so does the loss of a decoder-only model
    that takes `num_items_in_batch`: it is exact as it is. label_smoothing_factor reaches the loss;
    the Trainer of transformers 5.14 and older would not divide a smoothed loss among micro-batches.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adds_decoder_inputs = False
        if self.compute_loss_func is not None:
            return
        self._adds_decoder_inputs = is_encoder_decoder(self.model)
        smoothing = self.args.label_smoothing_factor
        if self._adds_decoder_inputs or not self.model_accepts_loss_kwargs or smoothing:
            self.compute_loss_func = functools.partial(exact_loss, label_smoothing=smoothing)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Gives the decoder its inputs: the Trainer keeps the labels from the model."""
        if self._adds_decoder_inputs:
            inputs = with_decoder_inputs(self.accelerator.unwrap_model(model), inputs)
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )


def with_decoder_inputs(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """Adds decoder_input_ids to a batch that has labels and lacks them."""
    if "labels" not in inputs or "decoder_input_ids" in inputs:
        return inputs
    return {**inputs, "decoder_input_ids": decoder_inputs(model, inputs["labels"])}
