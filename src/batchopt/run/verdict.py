"""Names how an attempt ended, and what is tried next."""

import os
import signal
from dataclasses import dataclass
from typing import Any

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import OnOom
from batchopt.run.child_process import Ending
from batchopt.slurm import jobs as slurm


@dataclass(frozen=True, slots=True)
class Cut:
    """What one attempt trains with."""

    plan: BatchPlan
    gradient_checkpointing: bool

    def facts(self) -> dict[str, Any]:
        """As the record has it."""
        return {
            "per_device_train_batch_size": self.plan.per_device_train_batch_size,
            "gradient_accumulation_steps": self.plan.gradient_accumulation_steps,
            "gradient_checkpointing": self.gradient_checkpointing,
        }


def judge(ending: Ending, request: RunRequest, cut: Cut) -> tuple[str, str]:
    """Names how an attempt ended, and why, with the phase and the step it was in."""
    outcome = ending.told.get("outcome")
    if outcome is not None and outcome["status"] != "interrupted":
        status, cause = outcome["status"], outcome["cause"]
    elif ending.stopped_for is not None:
        status, cause = _stopped(ending, request)
    elif outcome is not None:
        status, cause = "interrupted", f"{outcome['cause']}: the training process got a SIGTERM"
    else:
        status, cause = _died(ending, request)
    if status == "killed" and ending.kernel_killed and outcome is not None:
        status, cause = "oom", f"the kernel's OOM killer was at work: {cause}"
    if status == "completed":
        return status, cause
    step = ending.told.get("step")
    where = f"phase {ending.phase}" + (f", after step {step}" if step else "")
    return status, f"{cause} ({where}, micro-batches of {cut.plan.per_device_train_batch_size})"


def _stopped(ending: Ending, request: RunRequest) -> tuple[str, str]:
    """For what this side ended the worker."""
    limits = request.config.run
    saved = ending.told.get("checkpoint_step")
    kept = f"checkpoint at step {saved}" if saved else "no checkpoint"
    if ending.stopped_for == "timeout":
        return "timeout", f"longer than run.timeout_min={limits.timeout_min:g}; {kept}"
    if ending.stopped_for == "stall":
        return "timeout", f"no progress for run.stall_min={limits.stall_min:g} minutes; {kept}"
    if ending.stopped_for == "device lost":
        return "failed", f"the GPU was lost: {ending.device_error}; {kept}"
    if ending.stopped_for == "exit":
        return "failed", "the training process told its outcome and did not end"
    number = ending.signals[0]
    why = slurm.why_stopped(os.environ, number)
    if why is not None:
        return why[0], f"{why[1]}; {kept}"
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return "interrupted", f"stopped by {name}; {kept}"


def _died(ending: Ending, request: RunRequest) -> tuple[str, str]:
    """A worker that ended without a word."""
    status, cause = name_death(ending.returncode)
    limit_gib = request.config.device.memory_limit_gib
    if status == "killed" and ending.kernel_killed:
        return "oom", "the kernel's OOM killer ended a process of this machine or job, and this one"
    near = limit_gib is not None and (ending.last_host_bytes or 0) > 0.9 * limit_gib * 2**30
    if status == "failed" and ending.returncode < 0 and near:
        return "oom", f"{cause} at device.memory_limit_gib={limit_gib:g}"
    return status, cause


def next_cut(policy: OnOom, cut: Cut) -> Cut | None:
    """What to try after a cut that did not fit; None where that is the run's result."""
    if policy is OnOom.record:
        return None
    if policy is OnOom.checkpoint_then_halve and not cut.gradient_checkpointing:
        return Cut(cut.plan, gradient_checkpointing=True)
    size = cut.plan.per_device_train_batch_size
    if size == 1:
        return None
    smaller = BatchPlan((size + 1) // 2, cut.plan.effective_batch_size)
    return Cut(smaller, cut.gradient_checkpointing)


def name_death(returncode: int) -> tuple[str, str]:
    """Returns status and cause of a process that ended without a word, by how it ended."""
    if returncode >= 0:
        cause = f"the training process ended with exit code {returncode} and no outcome"
        return "failed", cause
    try:
        name = signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        name = f"signal {-returncode}"
    crashes = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    if name in crashes:
        return "failed", f"the training process crashed ({name})"
    return "killed", f"the training process was ended from outside ({name})"
