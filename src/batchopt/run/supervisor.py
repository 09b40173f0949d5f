"""Supervises one run, attempt by attempt, and writes its record.

The supervisor is light (no torch) and survives whatever the training process does. While the run
goes on, running.json says so; its time of change is the sign of life. However the run ends,
record.json is written once.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from batchopt.errors import RequestError
from batchopt.machine.device import lease_for_run
from batchopt.machine.environment import code_hash, describe_environment
from batchopt.machine.lease import Lease
from batchopt.machine.nvml import DeviceInfo, NvmlError
from batchopt.record import files
from batchopt.record.attempts import MEASURED, earlier_attempts
from batchopt.record.documents import Attempt, Record, Running
from batchopt.record.metrics import METRICS
from batchopt.record.statuses import Status
from batchopt.record.write import write_record, write_running
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.read_back import config_hash
from batchopt.run.child_process import Ending, Stop, run_child
from batchopt.run.verdict import AttemptPlan, after_out_of_memory, judge
from batchopt.slurm import jobs as slurm

logger = logging.getLogger(__name__)

STACK_LINES = 200
"""Lines of the stacks of a crash or a hang that the record keeps."""

HEARTBEAT_S = 10.0
"""Seconds between two signs of life; see `record.read.SILENT_AFTER_S`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The batch that batch=auto chose, and why; `probes` as the record has them."""

    plan: BatchPlan
    reason: str
    probes: list[dict[str, Any]]


Choose = Callable[[RunRequest, DeviceInfo | None, Stop], Choice]
"""Chooses the batch of a run with batch=auto. The caller passes it in: the probe lies above."""

News = Callable[[Mapping[str, Any]], None]


def supervise(
    request: RunRequest,
    run_dir: Path,
    choose: Choose,
    on_news: News = lambda _: None,
    sequence: int | None = None,
) -> Status:
    """Trains one run to its end in child processes and writes record.json.

    Args:
        request: The run.
        run_dir: Its directory.
        choose: Called once for batch=auto, with the leased device.
        on_news: Called with each message of the training process.
        sequence: The run's place in its sweep, for the record; None for a single run.

    Returns:
        The status of the run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the training process has ended and the record is written.
        SystemExit: The same for SIGTERM.
    """
    run = None
    try:
        # A signal in the middle of writing running.json would leave a run without an end.
        with Stop() as stop:
            run = _begin(request, run_dir, on_news, sequence)
        _raise_first(stop)
        device_config = request.config.device
        with _signs_of_life(run_dir), _sigterm_raises():
            try:
                slurm.check_allocation(os.environ, device_config.kind.value)
                device, lease = lease_for_run(device_config, run_dir)
            except RequestError as error:
                return run.close(Status.failed, str(error))
            except NvmlError as error:
                cause = f"device.kind is {device_config.kind.value}: {error}"
                return run.close(Status.failed, cause)
            # Signals are recorded until the record is written: a second Ctrl-C must not prevent it.
            with lease, Stop() as stop:
                status = _supervise_attempts(run, choose, device, lease, stop)
        _raise_first(stop)
    except (KeyboardInterrupt, SystemExit):
        if run is not None and not (run_dir / files.RECORD).exists():
            run.close(Status.interrupted, "stopped before it had a device")
        raise
    return status


def _supervise_attempts(
    run: "_Run", choose: Choose, device: DeviceInfo | None, lease: Lease, stop: Stop
) -> Status:
    try:
        plan: AttemptPlan | None = run.first_plan(choose, device, stop)
    except RequestError as error:
        return run.close(Status.failed, str(error))
    except KeyboardInterrupt:
        return run.close(Status.interrupted, "stopped while batch=auto was probing")
    status, cause = Status.failed, ""
    while plan is not None:
        try:
            status, cause = run.attempt(plan, device, lease, stop)
        except NvmlError as error:
            cause = f"the GPU cannot be watched: {error}"
            # A driver that hangs is waited for until a signal comes.
            return run.close(Status.interrupted if stop.signals else Status.failed, cause)
        again = status is Status.oom and not stop.signals
        plan = after_out_of_memory(run.request.config.on_oom, plan) if again else None
    return run.close(status, cause, device)


def _begin(request: RunRequest, run_dir: Path, on_news: News, sequence: int | None) -> "_Run":
    """Writes running.json, and removes the record of an earlier attempt."""
    files.sweep_up(run_dir)
    attempts = earlier_attempts(run_dir)
    environment = describe_environment()
    run = _Run(
        request=request,
        run_dir=run_dir,
        on_news=on_news,
        sequence=sequence,
        environment=environment,
        attempts=attempts,
        running=Running(
            pid=os.getpid(),
            hostname=os.uname().nodename,
            started_at=attempts[0].started_at if attempts else files.now(),
            slurm_job_id=environment["slurm_job_id"],
            config_hash=config_hash(request.config),
            code_hash=code_hash(),
        ),
    )
    files.reserve(run_dir)
    run.write_running()
    # From now on running.json has the attempts; the record would say that the run has ended.
    (run_dir / files.RECORD).unlink(missing_ok=True)
    return run


@dataclass(slots=True, kw_only=True)
class _Run:
    """A run that goes on: its request, its attempts, and what the last one told."""

    request: RunRequest
    run_dir: Path
    on_news: News
    sequence: int | None
    environment: Mapping[str, Any]
    attempts: list[Attempt]
    running: Running
    chosen: dict[str, Any] | None = None
    """What batch=auto found."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the last training process reported of itself, also if it died."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None

    @property
    def asked(self) -> AttemptPlan | None:
        """The batch that was asked for; None for batch=auto."""
        plan, training = self.request.plan, self.request.config.training
        return None if plan is None else AttemptPlan(plan, training.gradient_checkpointing)

    def first_plan(self, choose: Choose, device: DeviceInfo | None, stop: Stop) -> AttemptPlan:
        """The batch to begin with: that of an earlier attempt, as asked, or as a probe chooses.

        Raises:
            KeyboardInterrupt: A signal came while batch=auto was probing.
            RequestError: batch=auto found nothing that fits.
        """
        config = self.request.config
        if self.attempts and self.attempts[-1].status != Status.oom:
            last = self.attempts[-1]
            size, effective = last.per_device_train_batch_size, config.batch.effective_batch_size
            return AttemptPlan(BatchPlan(size, effective), last.gradient_checkpointing)
        if self.asked is not None:
            return self.asked
        choice = choose(self.request, device, stop)
        logger.info("batch=auto: %s: %s", choice.plan, choice.reason)
        self.chosen = {"reason": choice.reason, "probes": choice.probes}
        return AttemptPlan(choice.plan, config.training.gradient_checkpointing)

    def attempt(
        self, plan: AttemptPlan, device: DeviceInfo | None, lease: Lease, stop: Stop
    ) -> tuple[Status, str]:
        """Trains until the training process has ended; returns the status and the cause."""
        config = self.request.config
        number, started_at = len(self.attempts) + 1, files.now()
        earlier_s = sum(attempt.duration_s for attempt in self.attempts)
        here = {"device_uuid": device.uuid, "device_name": device.name} if device else {}
        self.write_running(**plan.facts(), **here)

        def on_news(message: dict[str, Any]) -> None:
            self.on_news(message)
            if "facts" in message:
                with suppress(OSError):  # on a full disk the file stays as it was
                    facts = message["facts"]
                    steps, threads = facts["plan"]["optimizer_steps"], facts["device"]["threads"]
                    self.write_running(
                        **plan.facts(), **here, optimizer_steps=steps, threads=threads
                    )

        ending = run_child(
            "batchopt.training.worker",
            [
                f"--per-device-train-batch-size={plan.batch.per_device_train_batch_size}",
                f"--attempt={number}",
                f"--earlier-s={earlier_s}",
                *(["--gradient-checkpointing"] if plan.gradient_checkpointing else []),
            ],
            self.run_dir,
            device,
            stop=stop,
            pass_fds=lease.pass_fds,
            limits=config.run,
            interval_s=config.device.sample_interval_s,
            attempt=number,
            earlier_s=earlier_s,
            on_news=on_news,
        )
        status, cause = judge(ending, self.request, plan)
        self.facts = _facts(ending)
        self.traceback = self.facts.get("traceback") or self._stacks(ending)
        on_device = device is not None and self.facts.get("device", {}).get("device_kind") != "cpu"
        told = self.facts["metrics"]
        outside = ending.measurement.metrics(
            on_device=on_device, reserved_bytes=told.get("peak_reserved_bytes")
        )
        self.metrics = outside | {name: told[name] for name in METRICS.keys() & told.keys()}
        self.attempts.append(
            Attempt(
                started_at=started_at,
                ended_at=files.now(),
                status=status,
                cause=cause,
                phase=ending.measurement.phase,
                step=ending.told.get("step"),
                **plan.facts(),
                duration_s=ending.duration_s,
                **{name: outside[name] for name in MEASURED},
            )
        )
        return status, cause

    def close(self, status: Status, cause: str, device: DeviceInfo | None = None) -> Status:
        """Writes the record; returns the status."""
        facts = self.facts.get("device", {})
        if facts.get("device_kind") == "cpu":
            device = None
        write_record(
            self.run_dir,
            Record(
                status=status,
                cause=cause,
                started_at=self.running.started_at,
                ended_at=files.now(),
                preset=self.request.preset,
                seed=self.request.config.seed,
                sequence=self.sequence,
                overrides=tuple(self.request.overrides),
                plan=self._plan(),
                metrics=self.metrics,
                attempts=tuple(self.attempts),
                environment={
                    **self.environment,
                    **facts,
                    "device_name": device.name if device else self.environment["cpu_model"],
                    "device_uuid": device.uuid if device else None,
                    "device_total_memory_bytes": device.total_memory_bytes if device else None,
                    "driver_version": device.driver_version if device else None,
                },
                data=self.facts.get("data"),
                model=self.facts.get("model"),
                data_fingerprint=self.facts.get("data_fingerprint"),
                config_hash=self.running.config_hash,
                code_hash=self.running.code_hash,
                traceback=self.traceback,
            ),
        )
        stacks = self.run_dir / files.STACKS
        if stacks.exists() and not stacks.stat().st_size:
            stacks.unlink()
        return status

    def write_running(self, **facts: Any) -> None:
        """Writes running.json with the attempts so far, and facts of the one that begins."""
        attempts = tuple(self.attempts)
        document = replace(self.running, attempts=attempts, attempt_started_at=files.now(), **facts)
        write_running(self.run_dir, document)

    def _plan(self) -> dict[str, Any]:
        config, asked = self.request.config, self.asked
        requested: dict[str, Any] = {
            "gradient_checkpointing": config.training.gradient_checkpointing
        }
        if asked is not None:
            requested = asked.facts()
        plan: dict[str, Any] = {
            "per_device_train_batch_size": None,
            "gradient_accumulation_steps": None,
            **requested,
            "effective_batch_size": config.batch.effective_batch_size,
            "packing": config.batch.packing.value,
            **self.facts.get("plan", {}),
        }
        changed = any(plan[name] != value for name, value in requested.items())
        return plan | {"requested": requested if changed else None, "chosen": self.chosen}

    def _stacks(self, ending: Ending) -> str | None:
        if ending.returncode == 0 or not (self.run_dir / files.STACKS).exists():
            return None
        text = (self.run_dir / files.STACKS).read_text(errors="replace")
        return "\n".join(text.splitlines()[-STACK_LINES:]) or None


def _facts(ending: Ending) -> dict[str, Any]:
    """The training process' outcome or, if it died, what it reported before."""
    told = ending.told
    facts: dict[str, Any] = dict(told.get("facts", {}))
    facts["metrics"] = facts.get("metrics", {}) | told.get("metrics", {})
    facts |= told.get("outcome", {})
    return facts


@contextmanager
def _signs_of_life(run_dir: Path) -> Iterator[None]:
    """Touches running.json while the supervisor lives, also while it waits or probes."""
    ended = Event()

    def touch() -> None:
        while not ended.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(run_dir / files.RUNNING)

    thread = Thread(target=touch, name="batchopt-signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5.0)  # a file system that hangs must not delay the exit


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Has SIGTERM raise, as Ctrl-C does, unless somebody (submitit) has a handler for it."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_first(stop: Stop) -> None:
    """Raises the first signal that was noted again, for Hydra or submitit."""
    if not stop.signals:
        return
    _, number = stop.signals[0]
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if callable(signal.getsignal(number)):
        os.kill(os.getpid(), number)  # submitit's handler puts the job back into the queue
    else:
        raise SystemExit(128 + number)
