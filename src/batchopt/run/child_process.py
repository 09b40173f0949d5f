"""Runs one child process, measures it, follows its messages, and stops it if necessary.

The child is `batchopt.training.worker` for a training, or `batchopt.probe.worker` for one batch
size. It sends phases, steps and figures through a pipe, as JSON lines: what it sent before it died
is known. The supervisor sends it signals only.
"""

import json
import logging
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
from enum import Enum
from pathlib import Path
from typing import Any

from batchopt.machine.cgroup import KernelKills
from batchopt.machine.lifeline import VARIABLE, lifeline
from batchopt.machine.nvml import DeviceInfo
from batchopt.record.statuses import Phase
from batchopt.request.config import RunConfig
from batchopt.run.measurement import Measurement, open_monitor
from batchopt.run.pace import Pace

logger = logging.getLogger(__name__)

TELL_SILENCE_S = 5.0
"""Seconds without an answer from NVML before a person is told."""

DEBOUNCE_S = 1.0
"""A second signal within this time counts as the first one, sent twice."""


class Stop:
    """Records signals to this process, so that the child can be stopped in order.

    A context manager that replaces the signal handlers of this process.
    """

    def __init__(self) -> None:
        self.signals: list[tuple[float, int]] = []
        """Each with its time by `time.monotonic`."""
        self._before: dict[int, Any] = {}

    def note(self, number: int, _: Any = None) -> None:
        """Records a signal; the handler."""
        self.signals.append((time.monotonic(), number))

    def __enter__(self) -> "Stop":
        for number in (
            *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
        ):
            before = signal.getsignal(number)
            # submitit sets handlers for these two on SLURM. Elsewhere they keep their meaning.
            if number in (signal.SIGUSR1, signal.SIGUSR2) and not callable(before):
                continue
            # Under nohup the run goes on when the terminal closes.
            if number == signal.SIGHUP and before == signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class StopReason(Enum):
    """Why the supervisor stopped a child."""

    signal = "this process received a signal"
    device_lost = "the GPU does not answer"
    timeout = "run.timeout_min has passed"
    stall = "run.stall_min has passed without a message"
    no_exit = "the child reported its outcome and did not exit"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended."""

    returncode: int
    told: dict[str, Any]
    """The newest value of each name in the child's messages."""
    stopped_for: StopReason | None
    """None: it ended by itself."""
    kernel_killed: bool
    """Whether the kernel's OOM killer ended a process meanwhile."""
    duration_s: float
    measurement: Measurement
    signals: tuple[int, ...]
    """Signals to this process meanwhile."""


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
) -> Ending:
    """Runs `python -m MODULE RUN_DIR ARGUMENTS` to its end.

    Args:
        module: What to run; takes --events, a descriptor.
        arguments: Its further words.
        run_dir: The run's directory.
        device: The only GPU that the child sees; None for the CPU.
        stop: Records the signals that stop the child.
        limits: When to stop the child.
        interval_s: Seconds between two samples of memory.
        attempt: Number of the attempt.
        earlier_s: Seconds that earlier attempts of the run took.
        pass_fds: Descriptors that the child inherits, such as a lease.
        on_news: Called with each message of the child.

    Raises:
        NvmlError: The device cannot be watched.
    """
    began = time.monotonic()
    kills = KernelKills()
    with ExitStack() as stack:
        # Opened before the child starts: what the device holds now is not the run's.
        monitor = open_monitor(device, stack, give_up=lambda: bool(stop.signals))
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
            earlier_s=earlier_s,
        )
        watch.follow()
    return Ending(
        returncode=child.returncode,
        told=watch.told,
        stopped_for=watch.stopped_for,
        kernel_killed=kills.happened(),
        duration_s=time.monotonic() - began,
        measurement=measured,
        signals=tuple(number for _, number in stop.signals),
    )


@contextmanager
def _child(
    module: str, words: Sequence[str], device: DeviceInfo | None, pass_fds: Sequence[int]
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Starts the child; yields it with the reading end of its pipe."""
    events, events_write = os.pipe()
    with lifeline() as lifeline_end:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *words, "--events", str(events_write)],
            # The child sees the one device that is measured, by its UUID, or none.
            env=os.environ
            | {"CUDA_VISIBLE_DEVICES": device.uuid if device else "", VARIABLE: str(lifeline_end)},
            pass_fds=(events_write, lifeline_end, *pass_fds),
            stdin=subprocess.DEVNULL,
            # In its own group, Ctrl-C in the terminal reaches this process only, which then stops
            # the child in order.
            process_group=0,
        )
        os.close(events_write)
        try:
            yield child, events
        finally:
            kill_group(child)
            os.close(events)


def kill_group(child: "subprocess.Popen[bytes]") -> None:
    """Kills the child and its own children, if any are left."""
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
        earlier_s: float,
    ) -> None:
        self.child = child
        self.events = events
        self.measured = measured
        self.limits = limits
        self.stop = stop
        self.on_news = on_news
        self.told: dict[str, Any] = {}
        self.stopped_for: StopReason | None = None
        now = time.monotonic()
        # The limit is for the whole run: earlier attempts count.
        self._deadline = (
            None if limits.timeout_min is None else now - earlier_s + 60 * limits.timeout_min
        )
        self._news_at = self._asked_at = now
        self._insistence: list[tuple[float, int]] = []
        self._said_silent = False
        self._pace = Pace(child.pid)

    def follow(self) -> None:
        """Reads the child's messages until it has ended, and stops it if necessary."""
        unread = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.events, selectors.EVENT_READ)
            while self.child.poll() is None:
                if selector.select(timeout=0.1):
                    received = os.read(self.events, 1 << 16)
                    if not received:  # the child has closed its end and is about to exit
                        selector.unregister(self.events)
                    unread = self._take(unread + received)
                self._judge()
        kill_group(self.child)  # its own children would hold the pipe open
        while received := os.read(self.events, 1 << 16):
            unread = self._take(unread + received)

    def _take(self, text: bytes) -> bytes:
        *complete, unread = text.split(b"\n")
        for line in complete:
            message = json.loads(line)
            self._news_at = time.monotonic()
            self.told |= message
            self._pace.take(message, self._news_at)
            if "phase" in message:
                self.measured.enter(
                    Phase(message["phase"]), message.get("peak_bytes"), message.get("began_at")
                )
            self.on_news(message)
        return unread

    def _judge(self) -> None:
        now = time.monotonic()
        if (slow := self._pace.look(now)) is not None:
            logger.warning("%s", slow)
        if not self._said_silent and self.measured.silent_s > TELL_SILENCE_S:
            self._said_silent = True
            logger.warning(
                "NVML has not answered for %.0f s: memory, energy and neighbours of the GPU are "
                "not measured meanwhile; the training goes on",
                self.measured.silent_s,
            )
        if self.stopped_for is not None:
            self._insist(now)
        elif self.stop.signals:
            self._end(StopReason.signal, now)
        elif self.measured.error is not None:
            self._end(StopReason.device_lost, now)
        elif self._deadline is not None and now >= self._deadline:
            self._end(StopReason.timeout, now)
        elif self._silent_s(now) > 60 * (self.limits.stall_min or math.inf):
            self._end(StopReason.stall, now)
        elif "outcome" in self.told and self._silent_s(now) > self.limits.grace_s:
            self._end(StopReason.no_exit, now)

    def _silent_s(self, now: float) -> float:
        return now - self._news_at

    def _end(self, reason: StopReason, now: float) -> None:
        """Asks the child to stop, which writes a checkpoint first, and plans stronger signals."""
        self.stopped_for = reason
        self._asked_at = now
        if reason is StopReason.stall:
            self.child.send_signal(signal.SIGQUIT)  # the child's handler writes all stacks
        self.child.send_signal(signal.SIGTERM)
        self._insistence = [
            # Writes all stacks and ends the child, even if the interpreter hangs.
            (now + self.limits.grace_s, signal.SIGABRT),
            (now + self.limits.grace_s + 5.0, signal.SIGKILL),
        ]

    def _insist(self, now: float) -> None:
        # A second Ctrl-C kills at once. Some launchers send the first one twice.
        if self.stop.signals and self.stop.signals[-1][0] > self._asked_at + DEBOUNCE_S:
            self._insistence = [(now, signal.SIGKILL)]
        while self._insistence and now >= self._insistence[0][0]:
            _, number = self._insistence.pop(0)
            if number == signal.SIGKILL:
                kill_group(self.child)
            else:
                self.child.send_signal(number)
