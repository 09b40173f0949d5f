"""What a run writes while it trains: metrics.jsonl, predictions.jsonl, and where it is.

The recorder owns the run's clocks. Training time is the time between the ends of two optimizer
steps, data included; evaluations, checkpoints and logging lie outside it.
"""

import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from batchopt.evaluation import Evaluation
from batchopt.noise_scale import NoiseScale
from batchopt.run_files import METRICS, PREDICTIONS, append_jsonl, write_jsonl

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepTiming:
    """One optimizer step."""

    duration_s: float
    examples: int
    micro_batches: int
    source_tokens: int
    target_tokens: int
    padded_source_tokens: int
    padded_target_tokens: int

    @property
    def real_tokens(self) -> int:
        """Source and target tokens of the examples."""
        return self.source_tokens + self.target_tokens

    @property
    def padded_tokens(self) -> int:
        """Source and target tokens as computed."""
        return self.padded_source_tokens + self.padded_target_tokens


def warmup_steps(steps: int) -> int:
    """How many steps the steady state leaves out: the first 10, or a fifth of fewer than 50.

    The first steps pay for lazy initialisation, cold caches and the allocator's growth.
    """
    return min(10, steps // 5)


class Events:
    """Tells the supervisor in which phase the run is; silent where there is no supervisor."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor

    def phase(self, name: str) -> None:
        """Says that a phase begins: load, train, evaluate or save."""
        if self.descriptor is not None:
            os.write(self.descriptor, (json.dumps({"phase": name}) + "\n").encode())


class Recorder(TrainerCallback):
    """Follows a training through the Trainer's events."""

    def __init__(self, run_dir: Path, events: Events, started: float) -> None:
        """Takes the time at which the run started, by `time.monotonic`."""
        self.run_dir = run_dir
        self.events = events
        self.started = started
        self.steps: list[StepTiming] = []
        self.evaluations: list[dict[str, Any]] = []
        self.train_loss: float | None = None
        self.eval_time_s = 0.0
        self.train_time_s = 0.0
        self.largest_micro_batch_tokens = 0
        self.noise_scale = NoiseScale()
        self._mark = time.perf_counter()
        self._step: dict[str, Any] = {}

    def step_begins(self, step: dict[str, Any]) -> None:
        """Takes the counts of the optimizer step that is about to run."""
        self._step = step

    def record_evaluation(self, step: int, epoch: float, result: Evaluation, took_s: float) -> None:
        """Writes one evaluation: its line in metrics.jsonl, and predictions.jsonl anew."""
        self.eval_time_s += took_s
        _checked("evaluation", result.eval_loss, step)
        row = {
            "kind": "evaluation",
            "step": step,
            "epoch": epoch,
            "time_s": time.monotonic() - self.started,
            "train_time_s": self.train_time_s,
            "eval_time_s": took_s,
            "eval_loss": result.eval_loss,
            **result.scores,
        }
        self.evaluations.append(row)
        append_jsonl(self.run_dir / METRICS, row)
        write_jsonl(self.run_dir / PREDICTIONS, result.predictions)
        logger.info(
            "step %d: eval_loss %.3f, rouge_f1 %.3f", step, row["eval_loss"], row["rouge_f1"]
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Starts the clock of the first step."""
        self._resume_training()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Takes the time of the step, once the device has finished it."""
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        duration = time.perf_counter() - self._mark
        self.train_time_s += duration
        step = self._step
        self.steps.append(
            StepTiming(
                duration_s=duration,
                examples=step["examples"],
                micro_batches=len(step["micro_batches"]),
                source_tokens=step["source_tokens"],
                target_tokens=step["target_tokens"],
                padded_source_tokens=step["padded_source_tokens"],
                padded_target_tokens=step["padded_target_tokens"],
            )
        )
        self.largest_micro_batch_tokens = max(
            self.largest_micro_batch_tokens, step["largest_micro_batch_tokens"]
        )
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True  # the last step counts, on whatever number it falls
        self._mark = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Writes one line of training metrics."""
        if logs is None or "loss" not in logs:
            return
        self.train_loss = _checked("training", float(logs["loss"]), state.global_step)
        append_jsonl(
            self.run_dir / METRICS,
            {
                "kind": "train",
                "step": state.global_step,
                "epoch": logs["epoch"],
                "time_s": time.monotonic() - self.started,
                "train_time_s": self.train_time_s,
                "train_loss": self.train_loss,
                "learning_rate": logs["learning_rate"],
                "grad_norm": _finite(logs.get("grad_norm")),
            },
        )
        self._resume_training()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Goes back to the clock of training."""
        self._resume_training()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Likewise after a checkpoint."""
        self._resume_training()

    def metrics(self) -> dict[str, Any]:
        """The final numbers that follow from what was seen, named as in record.json."""
        left_out = warmup_steps(len(self.steps))
        steady = self.steps[left_out:]
        seconds = sum(step.duration_s for step in steady)
        last = self.evaluations[-1] if self.evaluations else {}
        best = max(self.evaluations, key=lambda row: row["rouge_f1"], default={})

        def rate(amount: int) -> float | None:
            return amount / seconds if steady else None

        return {
            "optimizer_steps_done": len(self.steps),
            "warmup_steps_left_out": left_out,
            "steps_per_second": rate(len(steady)),
            "samples_per_second": rate(sum(step.examples for step in steady)),
            "tokens_per_second": rate(sum(step.real_tokens for step in steady)),
            "padded_tokens_per_second": rate(sum(step.padded_tokens for step in steady)),
            "padding_fraction": self._padding("real_tokens", "padded_tokens"),
            "source_padding_fraction": self._padding("source_tokens", "padded_source_tokens"),
            "target_padding_fraction": self._padding("target_tokens", "padded_target_tokens"),
            "micro_batches_per_step": fmean(step.micro_batches for step in self.steps)
            if self.steps
            else None,
            "largest_micro_batch_tokens": self.largest_micro_batch_tokens or None,
            "train_time_s": self.train_time_s,
            "eval_time_s": self.eval_time_s,
            "train_loss": self.train_loss,
            "eval_loss": last.get("eval_loss"),
            **{
                name: last.get(name) for name in ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_f1")
            },
            "initial_rouge_f1": next(
                (row["rouge_f1"] for row in self.evaluations if row["step"] == 0), None
            ),
            "best_rouge_f1": best.get("rouge_f1"),
            "best_step": best.get("step"),
            "gradient_noise_scale": self.noise_scale.examples,
        }

    def _padding(self, real: str, padded: str) -> float | None:
        """The share of padding in all steps, from two counts by name."""
        computed = sum(getattr(step, padded) for step in self.steps)
        return 1 - sum(getattr(step, real) for step in self.steps) / computed if computed else None

    def _resume_training(self) -> None:
        self.events.phase("train")
        self._mark = time.perf_counter()


def _checked(kind: str, loss: float, step: int) -> float:
    """A training whose loss is no number any more is over; to go on would only cost."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the {kind} loss is {loss} at step {step}; lower training.learning_rate, or set "
            "training.precision=fp32"
        )
    return loss


def _finite(value: float | None) -> float | None:
    """A gradient that overflowed has no norm that JSON could hold."""
    return value if value is not None and math.isfinite(value) else None
