"""The examples of each optimizer step, divided into micro-batches.

One item of the training data loader is one whole optimizer step. So every preset and packing sees
the same examples in the same step, also in the last, smaller step of an epoch. Steps may have
different numbers of micro-batches, and a resumed run counts steps, not micro-batches.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from torch.utils.data import Sampler

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import Packing
from batchopt.step.architecture import ENCODER_DECODER, Architecture, Row
from batchopt.step.micro_batches import (
    Length,
    Partition,
    padding,
    plan_micro_batches,
    without_padding,
)


class StepSampler(Sampler[list[int]]):
    """Draws the indices of each optimizer step of an epoch.

    The order of an epoch follows from (seed, epoch) alone, so a resumed run sees the same examples.
    Without a seed it is the order of the data.
    """

    def __init__(self, examples: int, *, effective_batch_size: int, seed: int | None) -> None:
        self.examples = examples
        self.effective_batch_size = effective_batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.examples))
        if self.seed is not None:
            random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for start in range(0, self.examples, self.effective_batch_size):
            yield order[start : start + self.effective_batch_size]

    def __len__(self) -> int:
        return math.ceil(self.examples / self.effective_batch_size)


class StepCollator:
    """Makes the micro-batches of one optimizer step: padded tensors, and counts of the step.

    A step is a dict: `micro_batches` is a list of what `pad_batch` of the architecture returns, or
    `join_rows` with packing unpadded; `sizes` is the number of examples in each, `examples` that of
    the step, and the other keys are the counts of `micro_batches.Padding`.
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
        architecture: Architecture = ENCODER_DECODER,
    ) -> None:
        self.plan = plan
        self.packing = packing
        self.max_tokens_per_micro_batch = max_tokens_per_micro_batch
        self.pad_token_id = pad_token_id
        self.multiple = multiple
        self.longest = longest
        self.architecture = architecture

    def rounded(self, row: Row) -> Length:
        """The least lengths that a row is padded to, as its architecture counts them.

        Multiples of `multiple`, but no longer than `longest`, a source and a target: a model may
        have no more positions.
        """
        own = self.architecture.lengths(len(row["input_ids"]), len(row["labels"]))
        source, target = (-(-length // self.multiple) * self.multiple for length in own)
        if self.longest is not None:
            longest = self.architecture.lengths(*self.longest)
            source = max(own[0], min(source, longest[0]))
            target = max(own[1], min(target, longest[1]))
        return source, target

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Divides and pads the rows of one optimizer step."""
        partition = plan_micro_batches(
            [self.rounded(row) for row in rows],
            per_device_train_batch_size=self.plan.per_device_train_batch_size,
            packing=self.packing,
            max_tokens=self.max_tokens_per_micro_batch,
        )
        return self.divided(rows, partition)

    def divided(self, rows: Sequence[Row], partition: Partition) -> dict[str, Any]:
        """Pads, or joins, the rows of one optimizer step that is divided in this way."""
        lengths = [(len(row["input_ids"]), len(row["labels"])) for row in rows]
        parts = [[rows[index] for index in part] for part in partition]
        if self.packing is Packing.unpadded:
            micro_batches = [self.architecture.join_rows(part) for part in parts]
            counts = without_padding(lengths, partition)
        else:
            rounded = [self.rounded(row) for row in rows]
            micro_batches = [
                self.architecture.pad_batch(
                    part,
                    self.pad_token_id,
                    (
                        max(rounded[index][0] for index in indices),
                        max(rounded[index][1] for index in indices),
                    ),
                )
                for part, indices in zip(parts, partition, strict=True)
            ]
            counts = self.architecture.counted(padding(lengths, partition, rounded))
        return {
            "micro_batches": micro_batches,
            "sizes": [len(part) for part in parts],
            "examples": len(rows),
            **asdict(counts),
        }
