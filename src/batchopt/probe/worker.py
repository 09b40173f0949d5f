"""Probes one batch size in a process of its own; `batchopt.probe` starts it.

The trainer of the run trains on the worst micro-batch of the data: as many examples as the batch
size, each as long as the longest source and the longest target, or of a decoder-only model as the
longest example. Then it takes a few optimizer steps as a run does, to time them, and evaluates the
longest batch, with summaries of the full length. It is measured from outside, like a run.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from batchopt.machine.imports import without_collector
from batchopt.record.statuses import Phase, Status
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest, compose_run
from batchopt.step.architecture import Row
from batchopt.step.batches import StepCollator
from batchopt.training import adapters
from batchopt.training.failures import describe
from batchopt.training.supervised import add_supervision, be_supervised
from batchopt.training.worker import train

if TYPE_CHECKING:
    from batchopt.training.recorder import Recorder
    from batchopt.training.trainer import ExactTrainer

WORST_STEPS = 3
"""The first step makes the state of AdamW, so the second has everything in memory."""

TYPICAL_STEPS = 5


class WorstFirst:
    """Collates steps of the worst case first, then the steps of the data."""

    def __init__(self, collator: StepCollator, worst: Row, plan: BatchPlan) -> None:
        self.collator = collator
        self.worst = worst
        self.plan = plan
        self.steps = 0

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Makes the next step."""
        self.steps += 1
        if self.steps > WORST_STEPS:
            return self.collator(rows)
        size = self.plan.per_device_train_batch_size
        # The second micro-batch finds the gradient of the first in memory.
        count = min(2, self.plan.gradient_accumulation_steps)
        partition = [list(range(start, start + size)) for start in range(0, size * count, size)]
        return self.collator.divided([self.worst] * (size * count), partition)


def main() -> int:
    """Probes; exits with 0 even if the size does not fit, since it has reported that."""
    parser = argparse.ArgumentParser(description="Probe one batch size; batchopt.probe starts it.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--per-device-train-batch-size", type=int, required=True)
    add_supervision(parser)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    events = be_supervised(arguments)
    request = compose_run(arguments.overrides)
    adapters.settle_imports(request.config.adapter)
    with without_collector():
        from batchopt.training.recorder import Recorder

    recorder = Recorder(arguments.run_dir, events, time.monotonic())
    outcome: dict[str, Any] = {}
    try:
        recorder.phase(Phase.load)
        trainer, worst = build_probe(request, arguments.per_device_train_batch_size, recorder)
        outcome["worst"] = {
            "source_tokens": len(worst["input_ids"]),
            "target_tokens": len(worst["labels"]),
        }
        train(trainer)
        seconds = typical_s(recorder)
        outcome |= {"status": Status.completed, "cause": "", "seconds_per_step": seconds}
    except Exception as error:  # the probe asks whether it fits: an OOM is an answer
        status, cause = describe(error)
        outcome |= {"status": status, "cause": cause, "traceback": traceback.format_exc()}
    events.tell(outcome=outcome)
    return 0


def build_probe(request: RunRequest, size: int, recorder: "Recorder") -> tuple["ExactTrainer", Row]:
    """Builds a trainer that meets the worst case first; returns it with the longest row."""
    from batchopt.training.build import build_trainer

    config = request.config
    config.training.max_steps = WORST_STEPS + TYPICAL_STEPS
    config.training.eval_steps = config.training.max_steps
    config.training.save_checkpoints = False
    config.training.early_stopping_patience = None
    config.training.dataloader_num_workers = 0  # one process counts the steps: WorstFirst
    plan = BatchPlan(size, config.batch.effective_batch_size)
    # Training comes first: the allocator of the CPU would reuse the memory of an evaluation, and
    # small sizes would seem to need none.
    trainer, _ = build_trainer(request, plan, recorder, first_evaluation=False)
    trainer.evaluator = trainer.evaluator.of_the_longest_batch()
    generation = trainer.evaluator.generation
    generation.min_length = None
    generation.min_new_tokens = generation.max_new_tokens
    worst = trainer.collator.architecture.longest(trainer.train_rows)
    trainer.data_collator = WorstFirst(trainer.collator, worst, plan)
    return trainer, worst


def typical_s(recorder: "Recorder") -> float | None:
    """The median time of the steps after the worst ones and their successor."""
    typical = recorder.steps[WORST_STEPS + 1 :]
    return median(step.duration_s for step in typical) if typical else None


if __name__ == "__main__":
    sys.exit(main())
