"""Probes one batch size in a process of its own: `batchopt.probe` starts it.

It trains with the run's own trainer on the data set's own worst micro-batch: as many examples as
the batch size, as long as the longest source and the longest target, which can meet in one. Then
it takes a few optimizer steps as a run would, for their time, and evaluates the longest batch,
with summaries as long as they may become. The supervisor's measurement watches it like a run.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.step.batches import Row, StepCollator, pad_batch
from batchopt.training.build import build_trainer
from batchopt.training.failures import describe
from batchopt.training.recorder import Recorder
from batchopt.training.step_times import StepTiming
from batchopt.training.supervised import add_supervision, be_supervised
from batchopt.training.worker import train

WORST_STEPS = 3
"""AdamW's state comes with the first step; the second one has all there is in memory."""

TYPICAL_STEPS = 5


class WorstFirst:
    """Collates worst-case steps first, then steps as the data has them."""

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
        source, target = self.collator.rounded(self.worst)
        batch = pad_batch([self.worst] * size, self.collator.pad_token_id, (source, target))
        # The second one meets the gradient of the first in memory.
        count = min(2, self.plan.gradient_accumulation_steps)
        examples = size * count
        return {
            "micro_batches": [batch] * count,
            "examples": examples,
            "source_tokens": len(self.worst["input_ids"]) * examples,
            "target_tokens": len(self.worst["labels"]) * examples,
            "padded_source_tokens": source * examples,
            "padded_target_tokens": target * examples,
            "largest_micro_batch_tokens": size * (source + target),
        }


def longest_row(rows: Any) -> Row:
    """A row with the longest source and the longest target of the data, which may be two's."""
    row: Row = {}
    for name in ("input_ids", "labels"):
        row[name] = max(rows[name], key=len)
    return row


def main() -> int:
    """Probes; exits with 0 also where it does not fit, since it has told so."""
    parser = argparse.ArgumentParser(description="Probe one batch size; batchopt.probe starts it.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--per-device-train-batch-size", type=int, required=True)
    add_supervision(parser)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    events = be_supervised(arguments)
    recorder = Recorder(arguments.run_dir, events, time.monotonic())
    outcome: dict[str, Any] = {"metrics": {}}
    try:
        recorder.phase("load")
        _probe(arguments, recorder, outcome)
        outcome |= {"status": "completed", "cause": ""}
    except Exception as error:  # whether it fits is what is asked
        status, cause = describe(error)
        outcome |= {"status": status, "cause": cause, "traceback": traceback.format_exc()}
    events.tell(outcome=outcome)
    return 0


def _probe(arguments: argparse.Namespace, recorder: Recorder, outcome: dict[str, Any]) -> None:
    request = compose_run(arguments.overrides)
    config = request.config
    config.training.max_steps = WORST_STEPS + TYPICAL_STEPS
    config.training.eval_steps = config.training.max_steps
    config.training.save_checkpoints = False
    config.training.early_stopping_patience = None
    config.training.dataloader_num_workers = 0  # one process counts the steps: WorstFirst
    plan = BatchPlan(arguments.per_device_train_batch_size, config.batch.effective_batch_size)
    trainer = build_trainer(request, plan, recorder, outcome)
    evaluator = trainer.evaluator
    evaluator.batches = evaluator.batches[:1]  # sorted: the longest
    evaluator.generation.min_length = None
    evaluator.generation.min_new_tokens = evaluator.generation.max_new_tokens
    worst = longest_row(trainer.train_rows)
    assert isinstance(trainer.data_collator, StepCollator)
    trainer.data_collator = WorstFirst(trainer.data_collator, worst, plan)
    outcome["worst"] = {
        "source_tokens": len(worst["input_ids"]),
        "target_tokens": len(worst["labels"]),
    }
    # Training comes first: the CPU's allocator would lend it what an evaluation left, and small
    # sizes would seem to need nothing. A row for step 0 stands for the evaluation at the start.
    recorder.evaluations.append({"step": 0, "rouge_f1": 0.0})
    train(trainer, outcome)
    typical: list[StepTiming] = recorder.steps[WORST_STEPS + 1 :]
    outcome["seconds_per_step"] = median(step.duration_s for step in typical) if typical else None


if __name__ == "__main__":
    sys.exit(main())
