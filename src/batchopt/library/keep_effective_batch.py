"""A Trainer that survives running out of memory with the effective batch that it had.

`auto_find_batch_size` of the Trainer starts the training anew with a batch of nine tenths and the
accumulation as it was, so the effective batch shrinks. Here the step that failed is run again in
smaller micro-batches, and so is every later one.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from transformers import Trainer

from batchopt.errors import first_line
from batchopt.library.exact_loss import ExactLoss
from batchopt.library.exact_trainer import refuse_several_devices
from batchopt.training.failures import is_out_of_memory

logger = logging.getLogger(__name__)


class KeepEffectiveBatch(ExactLoss):
    """Mixin for the Trainer: an out-of-memory step is run again with half the per-device batch.

    `class MyTrainer(KeepEffectiveBatch, Seq2SeqTrainer): pass`. The accumulation doubles with every
    halving, so the effective batch stays. The loss is that of the whole step: see `ExactLoss`. No
    example is lost or seen twice, and the data loader, the step count and the checkpoints do not
    notice. `per_device_limit` has the size that fits; None as long as nothing failed. Only the
    optimizer step itself and the evaluation are not run again.

    Raises:
        ValueError: The Trainer trains on several devices, auto_find_batch_size is set, or a
            compute_loss of its owner returns the mean of a micro-batch.
        TypeError: The mixin stands behind the Trainer in the list of base classes.
    """

    per_device_limit: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if Trainer in order and order.index(Trainer) < order.index(KeepEffectiveBatch):
            raise TypeError(
                f"{cls.__name__}: KeepEffectiveBatch must stand before the Trainer: "
                f"class {cls.__name__}(KeepEffectiveBatch, Seq2SeqTrainer)"
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_several_devices(self)
        if self.args.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size is true, and it shrinks the effective batch; leave it false"
            )
        # transformers 5.18 and older has no such attribute.
        if getattr(self, "loss_is_scaled_for_ga", None) is False:
            raise ValueError(
                "loss_is_scaled_for_ga is false: the mean of a micro-batch changes when it is "
                "divided; divide the sum by num_items_in_batch, or leave compute_loss to batchopt"
            )
        self._step_batches: list[dict[str, Any]] = []
        self._step_losses: list[Tensor] = []

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Remembers the micro-batches of the step, in case one of them fails."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        self._step_batches, self._step_losses = samples, []
        return samples, items

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Runs a micro-batch; where memory runs out, all of the step so far in smaller ones.

        Returns:
            What this micro-batch adds to the loss of the step.
        """
        batches = [inputs]
        counted: Tensor | int = 0
        while True:
            failed = None
            try:
                losses = [self._run(model, batch, num_items_in_batch) for batch in batches]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failed = first_line(error)
            if failed is None:
                break
            # Here the exception is gone, and with it what its frames held.
            self._halve(inputs, failed)
            # A backward pass may have failed halfway, so the gradient of the step starts anew.
            model.zero_grad()
            clear_device_cache(garbage_collection=True)
            batches = self._step_batches[: len(self._step_losses) + 1]
            # The Trainer has added the losses that the earlier micro-batches had the first time.
            counted = sum(self._step_losses)
        loss = torch.stack(losses).sum() - counted
        self._step_losses.append(loss)
        return loss

    def _run(self, model: nn.Module, inputs: dict[str, Any], items: Any) -> Tensor:
        """Forward and backward of a micro-batch, in pieces of at most `per_device_limit`."""
        pieces = list(_pieces(inputs, self.per_device_limit))
        step = super().training_step
        return torch.stack([step(model, piece, items) for piece in pieces]).sum()

    def _halve(self, inputs: dict[str, Any], why: str) -> None:
        before = min(_examples(inputs), self.per_device_limit or sys.maxsize)
        if before < 2:
            raise MemoryError(f"not even one example fits into memory: {why}")
        self.per_device_limit = -(-before // 2)
        accumulated = self.args.gradient_accumulation_steps
        effective = self.args.per_device_train_batch_size * accumulated
        pieces, rest = divmod(effective, self.per_device_limit)
        # Planned micro-batches are of different sizes, which need not divide the step.
        logger.warning(
            "step %d ran out of memory with %d examples at a time (%s); it is run again %s, and so "
            "are the steps after it: the effective batch stays %d",
            self.state.global_step + 1,
            before,
            why,
            f"with at most {self.per_device_limit} at a time"
            if rest
            else f"as {self.per_device_limit} x {pieces}",
            effective,
        )


def _examples(inputs: Mapping[str, Any]) -> int:
    """The number of examples of a batch: the first size of its tensors."""
    return next(
        len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()
    )


def _pieces(inputs: Mapping[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    """Divides a batch along its examples into pieces of at most `limit`; None: one piece."""
    examples = _examples(inputs)
    if limit is None or examples <= limit:
        yield dict(inputs)
        return
    for start in range(0, examples, limit):
        part = slice(start, start + limit)
        yield {name: _part(value, part, examples) for name, value in inputs.items()}


def _part(value: Any, part: slice, examples: int) -> Any:
    """The examples of one piece; what has no size of the batch goes into every piece."""
    if isinstance(value, Tensor):
        return value[part] if value.dim() and len(value) == examples else value
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == examples:
        return value[part]
    return value
