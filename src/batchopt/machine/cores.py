"""Which CPU cores this process may use, and who else keeps them busy.

The kernel's count of busy time includes other users and other containers. Some sandboxes have no
such count, and there the processes that can be seen are added up.
"""

import math
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from heapq import nlargest

import psutil

from batchopt.machine.cgroup import cpu_quota
from batchopt.machine.processes import descendants

NOTICED_CORES = 0.3
"""Others that use less than this many cores, such as a desktop, count as idle."""

NAMED = 3
"""How many of the other processes are named."""

WORTH_NAMING_CORES = 0.05


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far: of all processes on our cores, of a family, of each other process."""

    wall_s: float
    busy_s: float
    own_s: float
    foreign_s: dict[int, float]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A process that uses `cores` of the CPU cores, 1.0 for one that never waits."""

    pid: int
    name: str
    cores: float

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) {self.cores:.2f}"


@dataclass(frozen=True, slots=True)
class Others:
    """What other processes used of our cores during `wall_s` seconds, the busiest first."""

    wall_s: float
    cores: float
    busiest: tuple[Neighbour, ...]

    def __str__(self) -> str:
        used = f"other processes use {self.cores:.1f} of {usable()} CPU cores"
        return f"{used}: {', '.join(map(str, self.busiest))}" if self.busiest else used


def usable() -> int:
    """The number of logical cores that the scheduler may run this process on."""
    return len(os.sched_getaffinity(0))


def read_usage(own: Collection[int]) -> Usage:
    """Reads what every process has used so far; takes milliseconds.

    Args:
        own: The processes that are no others. The time of their ended children is theirs.
    """
    seconds, own_s = {}, 0.0
    for process in psutil.process_iter(["cpu_times"]):
        times = process.info["cpu_times"]
        if times is None:
            continue
        used = times.user + times.system
        if process.pid in own:
            own_s += used + times.children_user + times.children_system
        else:
            seconds[process.pid] = used
    return Usage(wall_s=time.monotonic(), busy_s=busy_s(), own_s=own_s, foreign_s=seconds)


def read_usage_beside(pid: int) -> Usage | None:
    """Reads it for a run: this process, the run's and its descendants are no others.

    None if the run has ended.
    """
    found = descendants(pid)
    return None if found is None else read_usage({os.getpid(), pid, *found})


def busy_s() -> float:
    """Seconds that our cores have worked since the machine started, for whomever; 0: not known."""
    cores = psutil.cpu_times(percpu=True)
    ours = [cores[at] for at in os.sched_getaffinity(0) if at < len(cores)]
    # `user` includes the time of guests.
    return sum(core.user + core.nice + core.system for core in ours)


def between(before: Usage, now: Usage) -> Others:
    """What others used between two readings."""
    wall_s = max(now.wall_s - before.wall_s, 1e-9)
    taken = {pid: used - before.foreign_s.get(pid, used) for pid, used in now.foreign_s.items()}
    foreign_s = now.busy_s - before.busy_s - (now.own_s - before.own_s)
    if usable() == psutil.cpu_count() or now.busy_s == before.busy_s:
        # Seen or not, on all cores; pinned to some, we cannot tell who else is on them.
        foreign_s = max(foreign_s, sum(taken.values()))
    busiest = nlargest(NAMED, taken.items(), key=lambda item: item[1])
    return Others(
        wall_s=wall_s,
        cores=max(0.0, foreign_s / wall_s),
        busiest=tuple(
            Neighbour(pid, name_of(pid), used / wall_s)
            for pid, used in busiest
            if used > WORTH_NAMING_CORES * wall_s
        ),
    )


def free(others: Others) -> int:
    """How many cores others leave to this process, within the quota of its cgroup; at least 1."""
    left = usable() - math.ceil(others.cores - NOTICED_CORES)
    quota = cpu_quota()
    return max(1, left if quota is None else min(left, int(quota)))


def name_of(pid: int) -> str:
    """The name of a process; another run of batchopt is called that."""
    try:
        process = psutil.Process(pid)
        if "batchopt.training.worker" in process.cmdline():
            return "another batchopt run"
        return process.name()
    except psutil.Error:
        return "a process"
