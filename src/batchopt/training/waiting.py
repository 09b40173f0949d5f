"""How torch's threads wait for one another: alone they spin, beside busy neighbours they sleep.

At the end of each parallel operation a thread of libgomp spins for some milliseconds before it
sleeps. That is fastest while every thread has a core. Where another process has one of the cores,
all spin for the thread that waits for its turn, operation by operation: steps take up to a hundred
times as long. libgomp spins only for an instant while a process has more of its threads than cores.
So this module adds teams of threads that do nothing while others use the cores, and takes them
away afterwards. The training keeps its threads and their shares of the work: no bit of the result
changes.

Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
"""

import logging
import os
import sys
import time
from functools import cache
from threading import Event, Thread

import torch

from batchopt.machine import cores
from batchopt.machine.cgroup import cpu_quota

logger = logging.getLogger(__name__)

CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Whoever set one of these has chosen how the threads wait."""

LOOK_S = 1.0

GRAIN = 1 << 15
"""Elements that torch gives to each thread at the least (at::internal::GRAIN_SIZE)."""


class Waiting(Thread):
    """Looks every second who uses the cores, and lets the threads spin or sleep.

    A thread for the life of the process.

    Args:
        threads: Those that torch computes with.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(name="batchopt-waiting", daemon=True)
        self._threads = threads
        self._cores = cores.usable()
        self._quota = cpu_quota() or self._cores
        # Busy time is counted in hundredths of a second on each core.
        self._slack = cores.NOTICED_CORES + self._cores / 200
        self._crowd: list[Thread] = []
        self._leave = Event()
        self._slept_s = 0.0
        self._since = 0.0

    @property
    def sleeps(self) -> bool:
        """Whether the threads sleep now instead of spinning."""
        return bool(self._crowd)

    @property
    def slept_s(self) -> float:
        """For how many seconds so far they have."""
        return self._slept_s + (time.monotonic() - self._since if self.sleeps else 0.0)

    def run(self) -> None:
        """Looks for ever."""
        before = _reading()
        while True:
            time.sleep(LOOK_S)
            now = _reading()
            wall_s, busy_s, own_s = (new - old for new, old in zip(now, before, strict=True))
            self.take(max(0.0, (busy_s - own_s) / wall_s))
            before = now

    def take(self, others: float) -> None:
        """Decides by how many cores others use."""
        wanted = max(self._threads + others - self._cores, self._threads - self._quota)
        if not self.sleeps and wanted > self._slack:
            self._since = time.monotonic()
            self._gather()
            logger.info(
                "others use %.1f of %d CPU cores: torch's threads sleep while they wait",
                others,
                self._cores,
            )
        elif self.sleeps and wanted < self._slack / 2:
            self._slept_s = self.slept_s
            self._disperse()
            logger.info("others have left the CPU cores: torch's threads spin again")

    def _gather(self) -> None:
        """Adds idle teams, until there are more threads than cores."""
        self._leave.clear()
        teams = max(0, self._cores - self._threads) // (self._threads - 1) + 1
        # Each team is of a thread that torch has not met yet, and adds one thread less than it has.
        self._crowd = [Thread(target=self._idle, daemon=True) for _ in range(teams)]
        for member in self._crowd:
            member.start()

    def _idle(self) -> None:
        torch.zeros(self._threads * GRAIN, dtype=torch.uint8).add_(1)
        self._leave.wait()

    def _disperse(self) -> None:
        self._leave.set()
        for member in self._crowd:
            member.join()
        self._crowd = []


def _reading() -> tuple[float, float, float]:
    """The time, and the CPU seconds of all processes on our cores and of this one, in seconds."""
    return time.monotonic(), cores.busy_s(), time.process_time()


@cache
def watch_the_cores(threads: int) -> Waiting | None:
    """Starts the watch of this process, once; None where it has nothing to decide.

    A process that computes with one thread does not wait, and the person may have chosen.
    """
    if threads == 1 or sys.platform != "linux" or any(map(os.environ.get, CHOSEN_BY)):
        return None
    waiting = Waiting(threads)
    waiting.start()
    return waiting


def slept_s() -> float:
    """For how many seconds the threads of this process have slept, since others used the cores."""
    waiting = watch_the_cores(torch.get_num_threads())
    return 0.0 if waiting is None else waiting.slept_s
