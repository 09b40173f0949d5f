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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.machine.device import lease_for_run
from batchopt.machine.environment import code_hash, describe_environment
from batchopt.machine.lease import Lease
from batchopt.machine.nvml import DeviceInfo, NvmlError
from batchopt.record import files
from batchopt.record.attempts import _OF_ATTEMPTS, SCHEMA_VERSION, earlier_attempts, over_attempts
from batchopt.record.metrics import METRICS
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.read_back import config_hash
from batchopt.run.child_process import Ending, Stop, run_child
from batchopt.run.verdict import Cut, judge, next_cut
from batchopt.slurm import jobs as slurm

logger = logging.getLogger(__name__)


STACK_LINES = 200
"""Lines of the stacks of a crash or a hang that the record keeps."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The batch that batch=auto takes, and why; `probes` as the record keeps them."""

    plan: BatchPlan
    reason: str
    probes: list[dict[str, Any]]


Choose = Callable[[RunRequest, DeviceInfo | None, Stop], Choice]
"""Chooses the batch of a run with batch=auto. The caller passes it in: the probe lies above."""


def supervise(
    request: RunRequest,
    run_dir: Path,
    choose: Choose,
    on_news: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> str:
    """Trains one run to its end in child processes and writes record.json.

    Args:
        request: The run.
        run_dir: Its directory.
        choose: Called once for batch=auto, when the device is leased.
        on_news: Called with each message of the training process.

    Returns:
        The status of the run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the worker has ended and the record is written.
        SystemExit: Likewise for SIGTERM.
    """
    run = _Run(request, run_dir, choose, on_news)
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
        cut = next_cut(run.request.config.on_oom, cut) if again else None
    return run.close(device)


class _Run:
    """One run's files and its attempts so far."""

    def __init__(
        self,
        request: RunRequest,
        run_dir: Path,
        choose: Choose,
        on_news: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.request = request
        self.run_dir = run_dir
        self.choose = choose
        self.on_news = on_news
        self.environment = describe_environment()
        self.code_hash = code_hash()
        files.sweep_up(run_dir)
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
        files.reserve(run_dir)
        self._write_running({})
        # From here on running.json tells of the attempts; a record would say that the run is over.
        (run_dir / files.RECORD).unlink(missing_ok=True)

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
        choice = self.choose(self.request, device, stop)
        logger.info("batch=auto: %s: %s", choice.plan, choice.reason)
        self.chosen = {"reason": choice.reason, "probes": choice.probes}
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
            "batchopt.training.worker",
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
        files.release(self.run_dir)
        files.write_json(self.run_dir / files.RECORD, record)
        files.sweep_up(self.run_dir)
        stacks = self.run_dir / files.STACKS
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
        files.write_json(
            self.run_dir / files.RUNNING,
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
            os.utime(self.run_dir / files.RUNNING)

    def _stacks(self, ending: Ending) -> str | None:
        if ending.returncode == 0 or not (self.run_dir / files.STACKS).exists():
            return None
        text = (self.run_dir / files.STACKS).read_text(errors="replace")
        return "\n".join(text.splitlines()[-STACK_LINES:]) or None


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
