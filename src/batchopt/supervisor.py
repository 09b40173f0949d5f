"""Sees one run through, attempt by attempt, and writes its record.

The supervisor is light (no torch) and outlives whatever the worker does. It writes record.json
once, when the run has ended, however it ended. While the run goes on, running.json says so, and
its time of change is the sign of life.
"""

import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from batchopt import run_files, slurm
from batchopt.attempt import Ending, Stop, run_child
from batchopt.batch_plan import BatchPlan
from batchopt.compose import RunRequest, config_hash
from batchopt.config import OnOom
from batchopt.device import lease_for_run
from batchopt.environment import code_hash, describe_environment
from batchopt.errors import RequestError
from batchopt.failures import name_death
from batchopt.lease import Lease
from batchopt.metrics import METRICS
from batchopt.nvml import DeviceInfo, NvmlError
from batchopt.records import read_record, read_running

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2

STACK_LINES = 200
"""Lines of the stacks of a crash or a hang that the record keeps."""


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


def supervise(
    request: RunRequest,
    run_dir: Path,
    on_news: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> str:
    """Trains one run to its end in child processes and writes record.json.

    `on_news` is called with each message of the training process.

    Returns:
        The status of the run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the worker has ended and the record is written.
        SystemExit: Likewise for SIGTERM.
    """
    run = _Run(request, run_dir, on_news)
    device_config = request.config.device
    try:
        slurm.check_allocation(os.environ, device_config.kind.value)
        device, lease = lease_for_run(device_config, run_dir)
    except RequestError as error:
        return run.fail(str(error))
    except NvmlError as error:
        return run.fail(f"device.kind is {device_config.kind.value}: {error}")
    except KeyboardInterrupt:
        run.interrupt("stopped while it waited for a device")
        raise
    # Up to the record and not only while a worker runs: a second Ctrl-C must not cost the record.
    with lease, Stop() as stop:
        status = _see_through(run, device, lease, stop)
    _pass_on([number for _, number in stop.signals])
    return status


def _see_through(run: "_Run", device: DeviceInfo | None, lease: Lease, stop: Stop) -> str:
    try:
        cut: Cut | None = run.first_cut(device, stop)
    except RequestError as error:
        return run.fail(str(error))
    except KeyboardInterrupt:
        return run.interrupt("stopped while batch=auto was probing")
    while cut is not None:
        try:
            run.attempt(cut, device, lease, stop)
        except NvmlError as error:
            return run.fail(f"the GPU cannot be watched: {error}")
        again = run.status == "oom" and not stop.signals
        cut = _next_cut(run.request.config.on_oom, cut) if again else None
    return run.close(device)


class _Run:
    """One run's files and its attempts so far."""

    def __init__(
        self,
        request: RunRequest,
        run_dir: Path,
        on_news: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.request = request
        self.run_dir = run_dir
        self.on_news = on_news
        self.environment = describe_environment()
        self.code_hash = code_hash()
        run_files.sweep_up(run_dir)
        self.attempts = earlier_attempts(run_dir)
        self.started_at = self.attempts[0]["started_at"] if self.attempts else _now()
        self.told: dict[str, Any] = {}
        self.status, self.cause = "failed", ""
        self.traceback: str | None = None
        checkpointing = request.config.training.gradient_checkpointing
        self.asked = None if request.plan is None else Cut(request.plan, checkpointing)
        """What was asked for; None for batch=auto."""
        self.chosen: dict[str, Any] | None = None
        """What batch=auto found."""
        self.metrics: dict[str, Any] = {}
        run_files.reserve(run_dir)
        self._write_running({})
        # From here on running.json tells of the attempts; a record would say that the run is over.
        (run_dir / run_files.RECORD).unlink(missing_ok=True)

    def first_cut(self, device: DeviceInfo | None, stop: Stop) -> Cut:
        """How the run is cut: as asked, as an earlier attempt ended, or as a probe chooses.

        Raises:
            KeyboardInterrupt: A signal came while batch=auto was probing.
            RequestError: batch=auto found nothing that fits.
        """
        config = self.request.config
        effective = config.batch.effective_batch_size
        if self.attempts and self.attempts[-1]["status"] != "oom":
            last = self.attempts[-1]
            size, checkpointing = (
                last["per_device_train_batch_size"],
                last["gradient_checkpointing"],
            )
            return Cut(BatchPlan(size, effective), checkpointing)
        if self.asked is not None:
            return self.asked
        from batchopt.probe import choose  # it imports what draws tables

        choice = choose(self.request, device, stop)
        logger.info("batch=auto: %s: %s", choice.plan, choice.reason)
        self.chosen = {
            "reason": choice.reason,
            "probes": [asdict(probe) for probe in choice.probes],
        }
        return Cut(choice.plan, config.training.gradient_checkpointing)

    def attempt(self, cut: Cut, device: DeviceInfo | None, lease: Lease, stop: Stop) -> None:
        """Trains until the run or the worker ends; takes note of how it ended."""
        config = self.request.config
        number, started_at = len(self.attempts) + 1, _now()
        earlier_s = sum(attempt["duration_s"] for attempt in self.attempts)
        facts = cut.facts() | {
            "device_uuid": device.uuid if device else None,
            "device_name": device.name if device else None,
        }
        self._write_running(facts)
        words = [
            f"--per-device-train-batch-size={cut.plan.per_device_train_batch_size}",
            f"--attempt={number}",
            f"--earlier-s={earlier_s}",
            *(["--gradient-checkpointing"] if cut.gradient_checkpointing else []),
        ]

        def on_news(message: dict[str, Any]) -> None:
            self.on_news(message)
            if "facts" in message:
                steps = message["facts"]["plan"]["optimizer_steps"]
                with suppress(OSError):  # on a full disk it stays as it was
                    self._write_running(facts | {"optimizer_steps": steps})

        ending = run_child(
            "batchopt.worker",
            words,
            self.run_dir,
            device,
            stop=stop,
            pass_fds=lease.pass_fds,
            limits=config.run,
            interval_s=config.device.sample_interval_s,
            attempt=number,
            earlier_s=earlier_s,
            on_news=on_news,
            on_heartbeat=self._show_life,
        )
        self.told = ending.told
        outcome = self.outcome
        self.status, self.cause = judge(ending, self.request, cut)
        self.traceback = outcome.get("traceback") or self._stacks(ending)
        on_device = device is not None and outcome.get("device", {}).get("device_kind") != "cpu"
        outside = ending.metrics(on_device=on_device)
        self.metrics = outside | {
            name: value for name, value in outcome.get("metrics", {}).items() if name in METRICS
        }
        self.attempts.append(
            {
                "started_at": started_at,
                "ended_at": _now(),
                "status": self.status,
                "cause": self.cause,
                "phase": ending.phase,
                "step": ending.told.get("step"),
                **cut.facts(),
                "duration_s": ending.duration_s,
                **{name: outside[name] for name in _OF_ATTEMPTS},
            }
        )

    @property
    def outcome(self) -> dict[str, Any]:
        """What the worker said of itself; of one that died, what it had said before."""
        told = self.told
        facts: dict[str, Any] = dict(told.get("facts", {}))
        facts["metrics"] = facts.get("metrics", {}) | told.get("metrics", {})
        facts |= told.get("outcome", {})
        return facts

    def fail(self, cause: str) -> str:
        """Writes the record of a run that cannot even begin."""
        self.status, self.cause = "failed", cause
        return self.close(None)

    def interrupt(self, cause: str) -> str:
        """Writes the record of a run that was stopped before it began."""
        self.status, self.cause = "interrupted", cause
        return self.close(None)

    def close(self, device: DeviceInfo | None) -> str:
        """Writes the record; returns the status."""
        outcome = self.outcome
        facts = outcome.get("device", {})
        if facts.get("device_kind") == "cpu":
            device = None
        metrics = dict.fromkeys(METRICS) | self.metrics | over_attempts(self.attempts)
        reserved, peak = metrics["peak_reserved_bytes"], metrics["peak_memory_bytes"]
        if reserved is not None and peak is not None:
            metrics["outside_allocator_bytes"] = peak - reserved
        last = self.attempts[-1] if self.attempts else {}
        record = {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "cause": self.cause,
            "phase": last.get("phase"),
            "step": last.get("step"),
            "started_at": self.started_at,
            "ended_at": _now(),
            "preset": self.request.preset,
            "seed": self.request.config.seed,
            "overrides": list(self.request.overrides),
            "plan": self._plan(outcome),
            "metrics": metrics,
            "attempts": self.attempts,
            "environment": self.environment
            | facts
            | {
                "device_name": device.name if device else self.environment["cpu_model"],
                "device_uuid": device.uuid if device else None,
                "driver_version": device.driver_version if device else None,
            },
            "data": outcome.get("data"),
            "model": outcome.get("model"),
            "data_fingerprint": outcome.get("data_fingerprint"),
            "config_hash": config_hash(self.request.config),
            "code_hash": self.code_hash,
            "traceback": self.traceback,
        }
        run_files.release(self.run_dir)
        run_files.write_json(self.run_dir / run_files.RECORD, record)
        run_files.sweep_up(self.run_dir)
        stacks = self.run_dir / run_files.STACKS
        if stacks.exists() and not stacks.stat().st_size:
            stacks.unlink()
        return self.status

    def _plan(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        config = self.request.config
        asked: dict[str, Any] = {"gradient_checkpointing": config.training.gradient_checkpointing}
        if self.asked is not None:
            asked = self.asked.facts()
        plan: dict[str, Any] = {
            "per_device_train_batch_size": None,
            "gradient_accumulation_steps": None,
            **asked,
            "effective_batch_size": config.batch.effective_batch_size,
            "packing": config.batch.packing.value,
        } | outcome.get("plan", {})
        changed = any(plan[name] != value for name, value in asked.items())
        return plan | {"requested": asked if changed else None, "chosen": self.chosen}

    def _write_running(self, facts: Mapping[str, Any]) -> None:
        run_files.write_json(
            self.run_dir / run_files.RUNNING,
            {
                "pid": os.getpid(),
                "hostname": os.uname().nodename,
                "started_at": self.started_at,
                "slurm_job_id": self.environment["slurm_job_id"],
                "attempts": self.attempts,
                "attempt_started_at": _now(),
                "config_hash": config_hash(self.request.config),
                "code_hash": self.code_hash,
                **facts,
            },
        )

    def _show_life(self) -> None:
        with suppress(OSError):
            os.utime(self.run_dir / run_files.RUNNING)

    def _stacks(self, ending: Ending) -> str | None:
        if ending.returncode == 0 or not (self.run_dir / run_files.STACKS).exists():
            return None
        text = (self.run_dir / run_files.STACKS).read_text(errors="replace")
        return "\n".join(text.splitlines()[-STACK_LINES:]) or None


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


def _next_cut(policy: OnOom, cut: Cut) -> Cut | None:
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


_CUT = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
)

_OF_ATTEMPTS = (
    "peak_memory_bytes",
    "mean_memory_bytes",
    "eval_peak_memory_bytes",
    "memory_source",
    "energy_j",
    "mean_power_w",
    "mean_utilization",
    "peak_temperature_c",
    "timing_untrusted",
)


def earlier_attempts(run_dir: Path) -> list[dict[str, Any]]:
    """The attempts that a directory's files tell of; one without an end is ended here."""
    record = read_record(run_dir)
    if record is not None:
        return _attempts(record, run_dir / run_files.RECORD)
    running = read_running(run_dir)
    if running is None:
        return []
    attempts = _attempts(running, run_dir / run_files.RUNNING)
    number = len(attempts) + 1
    rows = [
        row
        for row in run_files.read_jsonl(run_dir / run_files.MEMORY)
        if row.get("attempt") == number and isinstance(row.get("time_s"), int | float)
    ]
    if not running.keys() >= {"attempt_started_at", *_CUT}:
        return attempts  # it never came to start a worker
    training = [row.get("memory_bytes") for row in rows if row.get("phase") == "train"]
    known = [value for value in training if isinstance(value, int)]
    earlier_s = sum(attempt["duration_s"] for attempt in attempts)
    lost: dict[str, Any] = dict.fromkeys(_OF_ATTEMPTS)
    lost |= {
        "started_at": running["attempt_started_at"],
        "ended_at": None,
        "status": "killed",
        "cause": "the process that supervised the run ended without a record",
        "phase": rows[-1].get("phase") if rows else "load",
        "step": None,
        **{name: running[name] for name in _CUT},
        "duration_s": max(0.0, rows[-1]["time_s"] - earlier_s) if rows else 0.0,
        "peak_memory_bytes": max(known, default=None),
        "mean_memory_bytes": int(fmean(known)) if known else None,
        "energy_j": rows[-1].get("energy_j") if rows else None,
        "timing_untrusted": [],
    }
    return [*attempts, lost]


def _attempts(document: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The attempts of a record or of running.json; none where they were not written yet.

    Raises:
        RequestError: They are not what this batchopt can go on from.
    """
    attempts = document.get("attempts", [])
    needed = {"status", "duration_s", *_CUT, *_OF_ATTEMPTS}
    if not isinstance(attempts, list) or not all(
        isinstance(one, dict) and one.keys() >= {*needed, "started_at"} for one in attempts
    ):
        raise RequestError(f"{path}: attempts cannot be read; move the run away to do it anew")
    return attempts


def over_attempts(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a run that are not those of its last attempt alone.

    Time and energy are what the run cost, all attempts together. Memory is that of the attempts
    that were cut as the last one was.
    """
    if not attempts:
        return {}
    cut = ("per_device_train_batch_size", "gradient_checkpointing")
    same = [one for one in attempts if all(one[name] == attempts[-1][name] for name in cut)]

    def values(name: str, of: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [one[name] for one in of if one[name] is not None]

    def highest(name: str) -> Any:
        return max(values(name, same), default=None)

    def mean(name: str, of: Sequence[Mapping[str, Any]]) -> float | None:
        weighed = [(one[name], one["duration_s"]) for one in of if one[name] is not None]
        seconds = sum(duration for _, duration in weighed)
        return sum(value * duration for value, duration in weighed) / seconds if seconds else None

    energy = values("energy_j", attempts)
    memory = mean("mean_memory_bytes", same)
    return {
        "peak_memory_bytes": highest("peak_memory_bytes"),
        "mean_memory_bytes": None if memory is None else int(memory),
        "eval_peak_memory_bytes": highest("eval_peak_memory_bytes"),
        # A part of the energy would read like all of it.
        "energy_j": sum(energy) if len(energy) == len(attempts) else None,
        "mean_power_w": mean("mean_power_w", attempts),
        "mean_utilization": mean("mean_utilization", same),
        "peak_temperature_c": highest("peak_temperature_c"),
        "timing_untrusted": list(
            dict.fromkeys(reason for one in same for reason in one["timing_untrusted"] or [])
        ),
        "total_time_s": sum(one["duration_s"] for one in attempts),
    }


def _pass_on(signals: Sequence[int]) -> None:
    """Gives the first signal that came to whom it was meant for, now that the run has ended."""
    if not signals:
        return
    number = signals[0]
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if callable(signal.getsignal(number)):
        os.kill(os.getpid(), number)  # submitit's handler, which has the job queued again
    else:
        raise SystemExit(128 + number)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
