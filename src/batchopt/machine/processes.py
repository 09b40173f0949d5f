"""Which processes a run consists of: its own and their descendants.

The kernel lists a thread's children in a file of its own. psutil finds them by reading every
process of the machine, which takes 12 ms beside 500 processes; it is asked only where the kernel
keeps no such files.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

LOOK_S = 1.0
"""Seconds between two looks: the children of a training (data loaders) come seldom."""


class Family:
    """The processes of one run, looked for again once a second.

    Args:
        pid: The first process.
        clock: Monotonic time in seconds.
    """

    def __init__(self, pid: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid = pid
        self._clock = clock
        self._pids: tuple[int, ...] = (pid,)
        self._looked_at: float | None = None

    def pids(self) -> tuple[int, ...]:
        """The process numbers of the last look; those of the one before if it has ended."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= LOOK_S:
            self._looked_at = now
            found = descendants(self._pid)
            if found is not None:
                self._pids = (self._pid, *found)
        return self._pids


def descendants(pid: int) -> list[int] | None:
    """Finds all descendants of a process; None if it has ended.

    Source: https://docs.kernel.org/filesystems/proc.html (/proc/PID/task/TID/children).
    """
    if not _kernel_lists_children():
        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return None
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        if children is None and not found and not waiting:
            return None
        found += children or ()
        waiting += children or ()
    return found


def _children(pid: int) -> list[int] | None:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return None
    children: list[int] = []
    for thread in threads:
        try:
            words = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except OSError:  # the thread has ended
            continue
        children += map(int, words)
    return children


def _kernel_lists_children() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()
