"""Judges how an attempt ended, and decides what to try after an out-of-memory."""

import os
import signal
from dataclasses import dataclass
from typing import Any

from batchopt.errors import name_ending
from batchopt.record.metrics import GIB
from batchopt.record.statuses import Status
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import OnOom
from batchopt.run.child_process import Ending, StopReason
from batchopt.slurm import jobs as slurm


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """The batch and the gradient checkpointing of one attempt."""

    batch: BatchPlan
    gradient_checkpointing: bool

    def facts(self) -> dict[str, Any]:
        """The keys and values of the record."""
        return {
            "per_device_train_batch_size": self.batch.per_device_train_batch_size,
            "gradient_accumulation_steps": self.batch.gradient_accumulation_steps,
            "gradient_checkpointing": self.gradient_checkpointing,
        }


def judge(ending: Ending, request: RunRequest, plan: AttemptPlan) -> tuple[Status, str]:
    """Returns the status of an attempt and its cause, with the phase and the step."""
    outcome = ending.told.get("outcome")
    if outcome is not None and outcome["status"] != Status.interrupted:
        status, cause = Status(outcome["status"]), outcome["cause"]
    elif ending.stopped_for is not None:
        status, cause = _stopped(ending, ending.stopped_for, request)
    elif outcome is not None:
        status = Status.interrupted
        cause = f"{outcome['cause']}: the training process got a SIGTERM"
    else:
        status, cause = _died(ending, request)
    if status is Status.killed and ending.kernel_killed and outcome is not None:
        status, cause = Status.oom, f"the kernel's OOM killer was at work: {cause}"
    if status is Status.completed:
        return status, cause
    step, size = ending.told.get("step"), plan.batch.per_device_train_batch_size
    where = f"phase {ending.measurement.phase}" + (f", after step {step}" if step else "")
    return status, f"{cause} ({where}, micro-batches of {size})"


def _stopped(ending: Ending, reason: StopReason, request: RunRequest) -> tuple[Status, str]:
    """Status and cause of an attempt that the supervisor stopped."""
    limits = request.config.run
    saved = ending.told.get("checkpoint_step")
    kept = f"checkpoint at step {saved}" if saved else "no checkpoint"
    match reason:
        case StopReason.timeout:
            return Status.timeout, f"longer than run.timeout_min={limits.timeout_min:g}; {kept}"
        case StopReason.stall:
            cause = f"no progress for run.stall_min={limits.stall_min:g} minutes; {kept}"
            return Status.timeout, cause
        case StopReason.device_lost:
            return Status.failed, f"the GPU was lost: {ending.measurement.error}; {kept}"
        case StopReason.no_exit:
            return Status.failed, "the training process reported its outcome and did not end"
        case StopReason.signal:
            number = ending.signals[0]
            why = slurm.why_stopped(os.environ, number)
            if why is not None:
                return why[0], f"{why[1]}; {kept}"
            name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            return Status.interrupted, f"stopped by {name}; {kept}"


def _died(ending: Ending, request: RunRequest) -> tuple[Status, str]:
    """Status and cause of an attempt that ended without reporting its outcome."""
    status, cause = _name_death(ending.returncode)
    limit_gib = request.config.device.memory_limit_gib
    if status is Status.killed and ending.kernel_killed:
        cause = "the kernel's OOM killer ended a process of this machine or job, and this one"
        return Status.oom, cause
    near = limit_gib is not None and (
        (ending.measurement.last_host_bytes or 0) > 0.9 * limit_gib * GIB
    )
    if status is Status.failed and ending.returncode < 0 and near:
        return Status.oom, f"{cause} at device.memory_limit_gib={limit_gib:g}"
    return status, cause


def after_out_of_memory(policy: OnOom, plan: AttemptPlan) -> AttemptPlan | None:
    """What to try after an attempt that did not fit; None: that was the last one."""
    if policy is OnOom.record:
        return None
    if policy is OnOom.checkpoint_then_halve and not plan.gradient_checkpointing:
        return AttemptPlan(plan.batch, gradient_checkpointing=True)
    size = plan.batch.per_device_train_batch_size
    if size == 1:
        return None
    smaller = BatchPlan((size + 1) // 2, plan.batch.effective_batch_size)
    return AttemptPlan(smaller, plan.gradient_checkpointing)


def _name_death(returncode: int) -> tuple[Status, str]:
    """Status and cause of a process that reported nothing, from its return code."""
    name = name_ending(returncode)
    if returncode >= 0:
        return Status.failed, f"the training process ended with {name} and no outcome"
    crashes = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    if name in crashes:
        return Status.failed, f"the training process crashed ({name})"
    return Status.killed, f"the training process was ended from outside ({name})"
