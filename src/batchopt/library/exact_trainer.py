"""A Seq2SeqTrainer with the exact loss and planned micro-batches, for somebody's own script.

Everything else stays the Trainer's: its arguments, evaluation, callbacks, checkpoints, resuming.
Only the batch sampler and the loss differ. The sampler draws the examples of one optimizer step and
divides them into as many micro-batches as the Trainer accumulates.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import Seq2SeqTrainer

from batchopt.library.exact_loss import ExactLoss
from batchopt.library.rows import row_lengths
from batchopt.request.config import Packing
from batchopt.step.batches import StepSampler
from batchopt.step.micro_batches import Length, plan_micro_batches
from batchopt.training.trainer import EpochOrder
from batchopt.training.waiting import watch_the_cores

ORDERS = ("random", "sequential")
"""The values of train_sampling_strategy that leave the micro-batches to the planner."""


class PlannedSampler(Sampler[list[int]]):
    """Yields the indices of one micro-batch after the other, each step planned as a whole.

    Args:
        lengths: Source and target tokens of every example.
        per_device_train_batch_size: Examples of one micro-batch.
        effective_batch_size: Examples of one optimizer step.
        packing: `none`, `sorted` or `balanced`: these keep the number of micro-batches.
        seed: Of the order; None keeps the order of the data.
    """

    def __init__(
        self,
        lengths: list[Length],
        *,
        per_device_train_batch_size: int,
        effective_batch_size: int,
        packing: Packing,
        seed: int | None,
    ) -> None:
        self.lengths = lengths
        self.per_device_train_batch_size = per_device_train_batch_size
        self.effective_batch_size = effective_batch_size
        self.packing = packing
        self.steps = StepSampler(len(lengths), effective_batch_size=effective_batch_size, seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.steps.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for drawn in self.steps:
            parts = plan_micro_batches(
                [self.lengths[index] for index in drawn],
                per_device_train_batch_size=self.per_device_train_batch_size,
                packing=self.packing,
            )
            for part in parts:
                yield [drawn[index] for index in part]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.effective_batch_size)
        size = self.per_device_train_batch_size
        return whole * (self.effective_batch_size // size) + -(-rest // size)


class ExactSeq2SeqTrainer(ExactLoss, Seq2SeqTrainer):
    """Seq2SeqTrainer that is one training whatever the per-device batch and the accumulation.

    The loss of a step is the mean over all its target tokens, and 8 x 8, 16 x 4 and 64 x 1 see the
    same examples in the same step. Use it in place of Seq2SeqTrainer. It trains encoder-decoder and
    decoder-only models. On the CPU torch's threads sleep beside busy neighbours, as in a run.

    Args:
        packing: How the examples of a step share its micro-batches: "none" (as drawn), "sorted"
            (by length, for the least padding) or "balanced" (for the smallest largest one).

    Raises:
        ValueError: The packing changes the number of micro-batches, the Trainer is to sample in a
            way that plans micro-batches too, or it trains on several devices.
    """

    def __init__(
        self, *args: Any, packing: Packing | str = Packing.balanced, **kwargs: Any
    ) -> None:
        self.packing = Packing(packing)
        if self.packing in (Packing.packed, Packing.unpadded):
            raise ValueError(
                f"packing is {self.packing.value}, and the Trainer pads its micro-batches and "
                "accumulates a fixed number of them; take none, sorted or balanced"
            )
        super().__init__(*args, **kwargs)
        strategy = self.args.train_sampling_strategy
        if strategy not in ORDERS:
            raise ValueError(
                f"train_sampling_strategy is {strategy}, and ExactSeq2SeqTrainer plans the "
                f"micro-batches itself; take {' or '.join(ORDERS)}"
            )
        refuse_several_devices(self)
        if self.args.device.type == "cpu":
            watch_the_cores(torch.get_num_threads())

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One batch is one planned micro-batch."""
        # The Trainer's own loader has the collator, the workers and the columns that it would have.
        stock = super().get_train_dataloader()
        dataset: Any = stock.dataset
        if self.args.dataloader_drop_last:
            raise ValueError(
                "dataloader_drop_last is true, and the last step of an epoch is exact when it is "
                "smaller; leave it false"
            )
        size = self.args.per_device_train_batch_size
        shuffled = self.args.train_sampling_strategy == "random"
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        sampler = PlannedSampler(
            row_lengths(self.model, dataset),
            per_device_train_batch_size=size,
            effective_batch_size=size * self.args.gradient_accumulation_steps,
            packing=self.packing,
            seed=seed if shuffled else None,
        )
        self.add_callback(EpochOrder(sampler.steps))
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=stock.collate_fn,
            num_workers=stock.num_workers,
            pin_memory=stock.pin_memory,
            persistent_workers=stock.persistent_workers,
            prefetch_factor=stock.prefetch_factor,
            worker_init_fn=stock.worker_init_fn,
            multiprocessing_context=stock.multiprocessing_context,
            # transformers 5.14 and older has no such argument.
            in_order=getattr(self.args, "dataloader_in_order", True),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared


def refuse_several_devices(trainer: Any) -> None:
    """Refuses a Trainer that divides a step among devices.

    Raises:
        ValueError: It does.
    """
    args = trainer.args
    if args.world_size > 1 or args.n_gpu > 1 or trainer.is_deepspeed_enabled:
        raise ValueError(
            f"{type(trainer).__name__} trains on one device in one process; set "
            "CUDA_VISIBLE_DEVICES to one GPU and start the script without a launcher"
        )
