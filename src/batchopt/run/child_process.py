"""Runs one child process under measurement, follows what it tells, and ends it where it must.

The child is `batchopt.training.worker` for a training, or `batchopt.probe.worker` for one batch
size. After its start it gets signals alone. It reports phases, steps and figures through a pipe, as
JSON lines, so that a child that dies has still told all it knew.
"""

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.machine.cgroup import KernelKills
from batchopt.machine.lifeline import VARIABLE, lifeline
from batchopt.machine.nvml import DeviceInfo, NvmlError
from batchopt.request.config import RunConfig
from batchopt.run.measurement import Measurement, open_monitor

HEARTBEAT_S = 10.0
"""Seconds between two signs of life that others can see."""

DEBOUNCE_S = 1.0
"""A second signal within this time is taken for the first one, sent twice."""


class Stop:
    """What is to end the running child: a signal to this process.

    Signals are noted only: the child then ends in order, and the caller goes on.
    """

    def __init__(self) -> None:
        self.signals: list[tuple[float, int]] = []
        """Each with its time by `time.monotonic`."""
        self._before: dict[int, Any] = {}

    def note(self, number: int, _: Any = None) -> None:
        """The handler."""
        self.signals.append((time.monotonic(), number))

    def __enter__(self) -> "Stop":
        for number in (
            *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
        ):
            before = signal.getsignal(number)
            # A signal that nobody here expects keeps its meaning; submitit sets those of SLURM.
            if number in (signal.SIGUSR1, signal.SIGUSR2) and not callable(before):
                continue
            # The terminal is gone; under nohup that is no reason to stop.
            if number == signal.SIGHUP and before == signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class Ending:
    """How a child ended, and everything that is known of it.

    `told` holds the newest value of each thing the child told. `stopped_for` says why this side
    ended it: "signal", "timeout", "stall", "device lost"; None where it ended by itself.
    `metrics` are what was measured from outside.
    """

    returncode: int
    told: dict[str, Any]
    phase: str
    stopped_for: str | None
    kernel_killed: bool
    """Whether the kernel's OOM killer ended a process meanwhile."""
    duration_s: float
    metrics: Callable[..., dict[str, Any]]
    last_host_bytes: int | None
    device_error: NvmlError | None = None
    signals: tuple[int, ...] = ()


def run_child(
    module: str,
    arguments: Sequence[str],
    run_dir: Path,
    device: DeviceInfo | None,
    *,
    stop: Stop,
    limits: RunConfig,
    interval_s: float,
    attempt: int = 1,
    earlier_s: float = 0.0,
    pass_fds: Sequence[int] = (),
    on_news: Callable[[dict[str, Any]], None] = lambda _: None,
    on_heartbeat: Callable[[], None] = lambda: None,
) -> Ending:
    """Runs `python -m MODULE RUN_DIR ARGUMENTS` to its end.

    Args:
        module: What to run; takes --events, a descriptor.
        arguments: Its further words.
        run_dir: The run's directory.
        device: The one GPU that it sees; None for the CPU.
        stop: Notes the signals that end it.
        limits: When to end it.
        interval_s: Seconds between two samples of memory.
        attempt: Number of the attempt.
        earlier_s: Seconds that earlier attempts of the run took.
        pass_fds: Descriptors that the child holds open, such as a lease.
        on_news: Called with each message of the child.
        on_heartbeat: Called every `HEARTBEAT_S` seconds.

    Raises:
        NvmlError: The device cannot be watched.
    """
    began = time.monotonic()
    kills = KernelKills()
    with ExitStack() as stack:
        # Opened before the child starts: what the device holds now is not the run's.
        monitor = open_monitor(device, stack)
        child, events = stack.enter_context(
            _child(module, [str(run_dir), *arguments], device, pass_fds)
        )
        measured = stack.enter_context(
            Measurement(
                run_dir,
                child.pid,
                monitor,
                interval_s=interval_s,
                started=began - earlier_s,
                attempt=attempt,
            )
        )
        watch = _Watch(
            child,
            events=events,
            measured=measured,
            limits=limits,
            stop=stop,
            on_news=on_news,
            on_heartbeat=on_heartbeat,
            earlier_s=earlier_s,
        )
        watch.follow()
    return Ending(
        returncode=child.returncode,
        told=watch.told,
        phase=measured.phase,
        stopped_for=watch.stopped_for,
        kernel_killed=kills.happened(),
        duration_s=time.monotonic() - began,
        metrics=measured.metrics,
        last_host_bytes=measured.last_host_bytes,
        device_error=measured.error,
        signals=tuple(number for _, number in stop.signals),
    )


@contextmanager
def _child(
    module: str, words: Sequence[str], device: DeviceInfo | None, pass_fds: Sequence[int]
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Starts the child and yields it with the descriptor that its events come from."""
    events, events_write = os.pipe()
    with lifeline() as lifeline_end:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *words, "--events", str(events_write)],
            # The child sees the one device that is measured, by its UUID, or none.
            env=os.environ
            | {"CUDA_VISIBLE_DEVICES": device.uuid if device else "", VARIABLE: str(lifeline_end)},
            pass_fds=(events_write, lifeline_end, *pass_fds),
            stdin=subprocess.DEVNULL,
            # A group of its own: Ctrl-C in the terminal reaches this process alone, which then
            # ends the child in order.
            process_group=0,
        )
        os.close(events_write)
        try:
            yield child, events
        finally:
            kill_group(child)
            os.close(events)


def kill_group(child: "subprocess.Popen[bytes]") -> None:
    """Leaves nothing of the child behind, its own children included."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class _Watch:
    """Follows one child until it has ended."""

    def __init__(
        self,
        child: "subprocess.Popen[bytes]",
        *,
        events: int,
        measured: Measurement,
        limits: RunConfig,
        stop: Stop,
        on_news: Callable[[dict[str, Any]], None],
        on_heartbeat: Callable[[], None],
        earlier_s: float,
    ) -> None:
        self.child = child
        self.events = events
        self.measured = measured
        self.limits = limits
        self.stop = stop
        self.on_news = on_news
        self.on_heartbeat = on_heartbeat
        self.told: dict[str, Any] = {}
        self.stopped_for: str | None = None
        now = time.monotonic()
        # The limit is one of the whole run: earlier attempts count.
        self._deadline = (
            None if limits.timeout_min is None else now - earlier_s + 60 * limits.timeout_min
        )
        self._news_at = self._heartbeat_at = now
        self._asked_at = now
        self._insistence: list[tuple[float, int]] = []

    def follow(self) -> None:
        """Reads, judges and, where it must be, ends the child."""
        unread = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.events, selectors.EVENT_READ)
            while self.child.poll() is None:
                if selector.select(timeout=0.1):
                    received = os.read(self.events, 1 << 16)
                    if not received:  # the child has closed its end: it is about to be gone
                        selector.unregister(self.events)
                    unread = self._take(unread + received)
                self._judge()
        kill_group(self.child)  # its own children hold the pipe open
        while received := os.read(self.events, 1 << 16):
            unread = self._take(unread + received)

    def _take(self, text: bytes) -> bytes:
        *complete, unread = text.split(b"\n")
        for line in complete:
            message = json.loads(line)
            self._news_at = time.monotonic()
            self.told |= message
            if "phase" in message:
                # A device that is lost ends the run elsewhere; it must not end the reading.
                with suppress(NvmlError):
                    self.measured.enter(message["phase"], message.get("peak_bytes"))
            self.on_news(message)
        return unread

    def _judge(self) -> None:
        now = time.monotonic()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_S
            self.on_heartbeat()
        if self.stopped_for is not None:
            self._insist(now)
        elif self.stop.signals:
            self._end("signal", now)
        elif self.measured.error is not None:
            self._end("device lost", now)
        elif self._deadline is not None and now >= self._deadline:
            self._end("timeout", now)
        elif self._silent_s(now) > 60 * (self.limits.stall_min or math.inf):
            self._end("stall", now)
        elif "outcome" in self.told and self._silent_s(now) > self.limits.grace_s:
            self._end("exit", now)

    def _silent_s(self, now: float) -> float:
        return now - self._news_at

    def _end(self, reason: str, now: float) -> None:
        """Asks the child to end, which writes a checkpoint first, and plans to insist."""
        self.stopped_for = reason
        self._asked_at = now
        if reason == "stall":
            self.child.send_signal(signal.SIGQUIT)  # the child's handler writes all stacks
        self.child.send_signal(signal.SIGTERM)
        self._insistence = [
            # Ends it with all stacks written, also where the interpreter itself hangs.
            (now + self.limits.grace_s, signal.SIGABRT),
            (now + self.limits.grace_s + 5.0, signal.SIGKILL),
        ]

    def _insist(self, now: float) -> None:
        # A second Ctrl-C ends at once; some launchers send the first one twice.
        if self.stop.signals and self.stop.signals[-1][0] > self._asked_at + DEBOUNCE_S:
            self._insistence = [(now, signal.SIGKILL)]
        while self._insistence and now >= self._insistence[0][0]:
            _, number = self._insistence.pop(0)
            if number == signal.SIGKILL:
                kill_group(self.child)
            else:
                self.child.send_signal(number)
