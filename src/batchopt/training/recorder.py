"""Writes metrics.jsonl and predictions.jsonl while a run trains, and reports its progress.

The recorder owns the clocks of the run. Training time is the time between the ends of two
optimizer steps, including the wait for data; evaluations, checkpoints and logging are left out. The
state of the recorder goes into every checkpoint, so that a resumed run has one history.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from batchopt.evaluation.evaluator import Evaluation
from batchopt.machine import host_memory
from batchopt.record.files import METRICS_JSONL, PREDICTIONS, append_jsonl, read_jsonl, write_jsonl
from batchopt.record.statuses import Phase
from batchopt.step.noise_scale import NoiseScale
from batchopt.training import checkpoints
from batchopt.training.step_times import (
    PARTS,
    WARMUP_STEPS,
    Marks,
    StepClock,
    StepTiming,
    steady_steps,
)
from batchopt.training.supervised import Events

logger = logging.getLogger(__name__)

SNAPSHOT_S = 5.0
"""Seconds between two reports of the metrics so far. A killed run leaves the last report."""


class StopRequested(BaseException):
    """The run was asked to stop before it trained; there is nothing to save."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a step: its examples, its share of the target tokens, the norm of its sum."""

    examples: int
    share: float
    norm: Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """One optimizer step, some of it still on the device."""

    marks: Marks
    counts: dict[str, int]
    loss: Tensor
    norm: Tensor
    """Of the step's gradient."""
    part: _Part | None
    """For the noise scale; None where the step is not measured."""


class Recorder(TrainerCallback):
    """Follows a training through the events of the Trainer.

    What a step leaves on the device (loss, norms, times) is read at log lines, evaluations and
    checkpoints, of all steps together, so that a GPU does not wait for the host in between.

    Args:
        run_dir: Where the files go.
        events: Reports to the supervisor.
        started: Start of the run by `time.monotonic`, moved back by the time of earlier attempts.
        attempt: Number of the attempt, from 1.
    """

    def __init__(self, run_dir: Path, events: Events, started: float, attempt: int = 1) -> None:
        self.run_dir = run_dir
        self.events = events
        self.started = started
        self.attempt = attempt
        self.per_device = 0
        """Examples of a micro-batch; set with the plan."""
        self.stop_requested = False
        self.training = False
        self.steps: list[StepTiming] = []
        self.evaluations: list[dict[str, Any]] = []
        self.train_loss: float | None = None
        self.eval_time_s = 0.0
        self.train_time_s = 0.0
        self.largest_micro_batch_tokens = 0
        self.noise_scale = NoiseScale()
        self.other_metrics: dict[str, Any] = {}
        """Metrics of the record that the recorder does not measure itself."""
        self.clock = StepClock(torch.device("cpu"))
        self.on_phase: Callable[[str], None] = lambda _: None
        """Called when a phase begins, before the supervisor is told."""
        self._losses: list[float] = []
        """Of the steps since the last log line."""
        self._unread: list[_Step] = []
        self._snapshot_at = time.monotonic()
        self._counts: dict[str, int] = {}
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None
        self._part: _Part | None = None

    def phase(self, name: str) -> None:
        """Says that a phase begins."""
        self._read_steps()
        self.on_phase("first_steps" if name == Phase.train and self._is_warming_up() else name)
        self.events.phase(name)

    def request_stop(self) -> None:
        """Ends the run after the step it is in, with a checkpoint.

        Raises:
            StopRequested: Nothing has been trained yet.
        """
        if not self.training:
            raise StopRequested
        self.stop_requested = True

    def step_begins(self, step: dict[str, Any]) -> None:
        """Notes the counts of the optimizer step that runs next."""
        counts = {name: value for name, value in step.items() if isinstance(value, int)}
        self._counts = counts | {"micro_batches": len(step["micro_batches"])}
        self._part = None
        self.clock.lap("data_wait_s")

    def part_computed(self, examples: int, share: float, norm: Tensor) -> None:
        """Takes the gradient's norm once a share of the step's target tokens is in it.

        The time that the norm took is left out of the step: a step in one piece has no part.
        """
        self._part = _Part(examples, share, norm)
        self.clock.leave_out()

    def step_computed(self, loss: Tensor) -> None:
        """Notes the loss of the step; its gradient is complete."""
        self._loss = loss
        self.clock.start()

    def gradient_computed(self, norm: Tensor) -> None:
        """Takes the norm of the whole gradient of the step."""
        self._norm = norm

    def record_evaluation(self, step: int, epoch: float, result: Evaluation, took_s: float) -> None:
        """Writes one evaluation: a line of metrics.jsonl, and a new predictions.jsonl."""
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
        self.events.tell(evaluation=row)
        append_jsonl(self.run_dir / METRICS_JSONL, row)
        write_jsonl(self.run_dir / PREDICTIONS, result.predictions)
        logger.info(
            "step %d: eval_loss %.3f, rouge_f1 %.3f", step, row["eval_loss"], row["rouge_f1"]
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Starts the clock of the first step."""
        self.clock = StepClock(args.device)
        self.training = True
        self._resume_training()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Marks the end of the step."""
        self.clock.lap("optimizer_s")
        assert self._loss is not None
        assert self._norm is not None
        step = _Step(self.clock.end(), self._counts, self._loss, self._norm, self._part)
        self._unread.append(step)
        self.largest_micro_batch_tokens = max(
            self.largest_micro_batch_tokens, self._counts["largest_micro_batch_tokens"]
        )
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True  # the last step, also between two evaluations
        if self.stop_requested and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        self._tell_progress(state)
        self.clock.begin()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Reads the last steps."""
        self._read_steps()

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
        self._read_steps()
        # The mean over the steps since the last line; the Trainer's own mean is lost at a resume.
        losses, self._losses = self._losses, []
        loss = fmean(losses)
        self.train_loss = _checked("training", loss, state.global_step)
        self.events.tell(loss=loss)
        append_jsonl(
            self.run_dir / METRICS_JSONL,
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
        """Goes back to the training clock."""
        if args.device.type == "cpu" and not self.steps:
            host_memory.trim()
        self._resume_training()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Goes back to the training clock."""
        self._resume_training()

    def complete_checkpoint(self, step: int, *, keep: int) -> None:
        """Adds the state of the recorder to a checkpoint, which completes it.

        Removes the oldest checkpoints, so that `keep` stay.
        """
        checkpoints.complete(checkpoints.folder(self.run_dir, step), self._state())
        self.events.tell(checkpoint_step=step)
        checkpoints.rotate(self.run_dir, keep, self._best().get("step"))

    def begin_anew(self) -> None:
        """Removes the files of an earlier attempt that left no checkpoint."""
        for name in (METRICS_JSONL, PREDICTIONS):
            (self.run_dir / name).unlink(missing_ok=True)

    def restore(self, folder: Path) -> None:
        """Goes back to the state of a checkpoint and drops the metrics that came after it."""
        state = checkpoints.recorded(folder)
        self.steps = [StepTiming(*row) for row in state["steps"]]
        self.evaluations = state["evaluations"]
        self.train_loss = state["train_loss"]
        self.eval_time_s = state["eval_time_s"]
        self.train_time_s = state["train_time_s"]
        self.largest_micro_batch_tokens = state["largest_micro_batch_tokens"]
        self.noise_scale.restore(state["noise_scale"])
        self._losses = state["losses"]
        path, step = self.run_dir / METRICS_JSONL, len(self.steps)
        write_jsonl(path, [row for row in list(read_jsonl(path)) if row["step"] <= step])

    def _state(self) -> dict[str, Any]:
        return {
            "steps": [astuple(step) for step in self.steps],
            "evaluations": self.evaluations,
            "train_loss": self.train_loss,
            "eval_time_s": self.eval_time_s,
            "train_time_s": self.train_time_s,
            "largest_micro_batch_tokens": self.largest_micro_batch_tokens,
            "noise_scale": self.noise_scale.state(),
            "losses": self._losses,
        }

    def metrics(self) -> dict[str, Any]:
        """The metrics so far, named as in record.json."""
        with suppress(RuntimeError):  # of a device that failed; what it still had is lost
            self._read_steps()
        steady = steady_steps(self.steps)
        durations = [step.duration_s for step in steady]
        seconds = sum(durations)
        quartiles = quantiles(durations, method="inclusive") if len(durations) > 1 else [None] * 3
        last = self.evaluations[-1] if self.evaluations else {}
        best = self._best()

        def rate(amount: int) -> float | None:
            return amount / seconds if steady else None

        return {
            "optimizer_steps_done": len(self.steps),
            "warmup_steps_left_out": len(self.steps) - len(steady),
            "steps_per_second": rate(len(steady)),
            "samples_per_second": rate(sum(step.examples for step in steady)),
            "tokens_per_second": rate(sum(step.real_tokens for step in steady)),
            "padded_tokens_per_second": rate(sum(step.padded_tokens for step in steady)),
            "step_time_q1_s": quartiles[0],
            "step_time_median_s": quartiles[1],
            "step_time_q3_s": quartiles[2],
            **{
                part: fmean(getattr(step, part) for step in steady) if steady else None
                for part in PARTS
            },
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
            **self.other_metrics,
        }

    def _best(self) -> dict[str, Any]:
        """The evaluation with the best score, the first of equal ones; empty before the first."""
        return max(self.evaluations, key=lambda row: row["rouge_f1"], default={})

    def _padding(self, real: str, padded: str) -> float | None:
        """The share of padding in all steps, from the names of two counts."""
        computed = sum(getattr(step, padded) for step in self.steps)
        return 1 - sum(getattr(step, real) for step in self.steps) / computed if computed else None

    def _is_warming_up(self) -> bool:
        # The steps of this attempt are the last ones. No loop over all: this runs at each log line.
        steps = self.steps
        return len(steps) < WARMUP_STEPS or steps[-WARMUP_STEPS].attempt != self.attempt

    def _read_steps(self) -> None:
        """Reads from the device what the steps since the last call left there, all at once."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        left = [
            [step.loss, step.norm, step.part.norm if step.part else step.norm] for step in unread
        ]
        values = torch.stack([value for step in left for value in step]).view(-1, 3).tolist()
        for step, (loss, norm, part_norm) in zip(unread, values, strict=True):
            self._losses.append(loss)
            if step.part is not None:
                part, examples = step.part, step.counts["examples"]
                self.noise_scale.add(part.examples, part_norm / part.share, examples, norm)
            timing = StepTiming(
                attempt=self.attempt,
                per_device=self.per_device,
                **self.clock.seconds(step.marks),
                examples=step.counts["examples"],
                micro_batches=step.counts["micro_batches"],
                source_tokens=step.counts["source_tokens"],
                target_tokens=step.counts["target_tokens"],
                padded_source_tokens=step.counts["padded_source_tokens"],
                padded_target_tokens=step.counts["padded_target_tokens"],
            )
            self.steps.append(timing)
            self.train_time_s += timing.duration_s

    def _tell_progress(self, state: TrainerState) -> None:
        self.events.tell(step=state.global_step)
        now = time.monotonic()
        if now - self._snapshot_at > SNAPSHOT_S:
            self.events.tell(metrics=self.metrics())
            # Long histories take longer to add up; reports stay a hundredth of the time.
            self._snapshot_at = now + 100 * (time.monotonic() - now)

    def _resume_training(self) -> None:
        self.phase(Phase.train)
        self.clock.begin()


def _checked(kind: str, loss: float, step: int) -> float:
    """Returns the loss.

    Raises:
        FloatingPointError: The loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the {kind} loss is {loss} at step {step}; lower training.learning_rate, or set "
            "training.precision=fp32"
        )
    return loss


def _finite(value: float | None) -> float | None:
    """None for the norm of a gradient that overflowed, since JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
