"""The examples of each optimizer step, cut into micro-batches.

One item of the training data loader is one whole optimizer step. So every preset and packing
sees the same examples in the same step, the last and smaller one included; steps may have
different numbers of micro-batches; and a resumed run counts steps, not micro-batches.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import Packing
from batchopt.step.loss import IGNORED, target_positions
from batchopt.step.micro_batches import Length, padding, plan_micro_batches

Row = dict[str, list[int]]


class StepSampler(Sampler[list[int]]):
    """Draws the indices of each optimizer step of an epoch.

    The order is made anew from (seed, epoch), never carried on from the epoch before, which keeps
    a resumed run on the same examples.
    """

    def __init__(self, examples: int, *, effective_batch_size: int, seed: int) -> None:
        self.examples = examples
        self.effective_batch_size = effective_batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.examples))
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for start in range(0, self.examples, self.effective_batch_size):
            yield order[start : start + self.effective_batch_size]

    def __len__(self) -> int:
        return math.ceil(self.examples / self.effective_batch_size)


class StepCollator:
    """Makes the micro-batches of one optimizer step: padded tensors, and the step's counts.

    A step is a dict with `micro_batches`, a list of dicts of tensors as `pad_batch` makes them,
    `examples`, their number, and the counts of `micro_batches.Padding` by name.
    """

    def __init__(
        self,
        plan: BatchPlan,
        *,
        packing: Packing,
        max_tokens_per_micro_batch: int | None,
        pad_token_id: int,
        multiple: int = 1,
        longest: Length | None = None,
    ) -> None:
        self.plan = plan
        self.packing = packing
        self.max_tokens_per_micro_batch = max_tokens_per_micro_batch
        self.pad_token_id = pad_token_id
        self.multiple = multiple
        self.longest = longest

    def rounded(self, row: Row) -> Length:
        """The least lengths that a row is padded to, source and target.

        Multiples of `multiple`, but no longer than `longest`: a model may have no more positions.
        """
        own = len(row["input_ids"]), len(row["labels"])
        source, target = (-(-length // self.multiple) * self.multiple for length in own)
        if self.longest is not None:
            source = max(own[0], min(source, self.longest[0]))
            target = max(own[1], min(target, self.longest[1]))
        return source, target

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Cuts and pads the rows of one optimizer step."""
        lengths = [(len(row["input_ids"]), len(row["labels"])) for row in rows]
        rounded = [self.rounded(row) for row in rows]
        cut = plan_micro_batches(
            rounded,
            per_device_train_batch_size=self.plan.per_device_train_batch_size,
            packing=self.packing,
            max_tokens=self.max_tokens_per_micro_batch,
        )
        micro_batches = [
            pad_batch(
                [rows[index] for index in part],
                self.pad_token_id,
                (
                    max(rounded[index][0] for index in part),
                    max(rounded[index][1] for index in part),
                ),
            )
            for part in cut
        ]
        counts = asdict(padding(lengths, cut, rounded))
        return {"micro_batches": micro_batches, "examples": len(rows), **counts}


def pad_batch(rows: Sequence[Row], pad_token_id: int, least: Length = (0, 0)) -> dict[str, Tensor]:
    """Pads rows to one batch: `input_ids`, `attention_mask` and `labels`, each (batch, length).

    Sources and targets become at least as long as `least` says.
    `target_positions` are the places of the target tokens in the flattened labels.
    """
    sources = [row["input_ids"] for row in rows]
    labels = pad([row["labels"] for row in rows], IGNORED, least[1])
    return {
        "input_ids": pad(sources, pad_token_id, least[0]),
        "attention_mask": pad([[1] * len(source) for source in sources], 0, least[0]),
        "labels": labels,
        "target_positions": target_positions(labels),
    }


def pad(rows: list[list[int]], value: int, least: int = 0) -> Tensor:
    """Stacks token rows of different lengths, filled up at the end with `value`."""
    longest = max(least, *(len(row) for row in rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])
