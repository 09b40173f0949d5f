"""How many threads the runs of a sweep train with on the CPU: chosen once, the same for all.

Torch starts a thread for every core. Beside a busy neighbour they wait for the one that has no
core, after every small operation. So the threads are as many as the cores that others leave. What
the person set is never changed. `training.waiting` is about the neighbour that comes later.
"""

import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from batchopt.errors import RequestError
from batchopt.machine import cores, lease
from batchopt.machine.processes import descendants

VARIABLE = "OMP_NUM_THREADS"

WINDOW_S = 1.0
"""The cores are watched for so long at the least."""


@dataclass(frozen=True, slots=True)
class Threads:
    """The threads of every run of a sweep, and why; `count` None: torch's own number."""

    count: int | None
    reason: str

    def __str__(self) -> str:
        return f"threads: {self.reason}"

    @property
    def environ(self) -> dict[str, str]:
        """What the environment of the training processes has to hold."""
        return {} if self.count is None else {VARIABLE: str(self.count)}

    def announce(self) -> None:
        """Prints the threads, and sets them for every process that this one starts."""
        print(self, flush=True)
        os.environ.update(self.environ)

    def document(self) -> dict[str, Any]:
        """The key `threads` of sweep.json."""
        return asdict(self)


class Watch:
    """Watches what others do with the cores, from its making on, while this process works."""

    def __init__(self) -> None:
        self._before = cores.read_usage(_family())

    def others(self) -> cores.Others:
        """What others used so far; waits until `WINDOW_S` have passed."""
        time.sleep(max(0.0, self._before.wall_s + WINDOW_S - time.monotonic()))
        return cores.between(self._before, cores.read_usage(_family()))


def choose(watch: Watch, configured: Collection[int | None], environ: Mapping[str, str]) -> Threads:
    """Chooses the threads of a sweep that trains on the CPU of this machine.

    Args:
        watch: Has watched the cores since the command started.
        configured: device.threads of each run.
        environ: The person's environment.
    """
    if (by_hand := _set_by_hand(configured, environ)) is not None:
        return by_hand
    others = watch.others()
    count = cores.free(others)
    default = min(psutil.cpu_count(logical=False) or cores.usable(), cores.usable())
    if count >= default:
        return Threads(None, f"{default}, torch's own number; the cores are free")
    if others.cores > cores.NOTICED_CORES:
        return Threads(count, f"{count} instead of {default}, since {others}")
    quota = f"the cgroup's quota is {count} of {cores.usable()} CPU cores"
    return Threads(count, f"{count} instead of {default}, since {quota}")


def again(
    count: int | None, configured: Collection[int | None], environ: Mapping[str, str]
) -> Threads:
    """The threads of a sweep that goes on: as it began, unless the person says otherwise."""
    as_began = Threads(count, f"{count or 'as torch chooses'}, as when it began")
    return _set_by_hand(configured, environ) or as_began


def _set_by_hand(configured: Collection[int | None], environ: Mapping[str, str]) -> Threads | None:
    """The threads that the person set; None: batchopt chooses."""
    if environ.get(VARIABLE):
        return Threads(None, f"{environ[VARIABLE]}, as {VARIABLE} says")
    if None not in configured:
        return Threads(None, f"{', '.join(map(str, configured))}, as device.threads says")
    return None


def _family() -> set[int]:
    """This process, its descendants, and the run of batchopt that will have ended before ours."""
    found = {os.getpid(), *(descendants(os.getpid()) or ())}
    with suppress(RequestError):  # the first run says what is wrong with the leases
        holder = lease.holder("cpu")
        if holder is not None:
            found |= {holder, *(descendants(holder) or ())}
    return found
