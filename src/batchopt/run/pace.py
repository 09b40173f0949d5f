"""Notices that a run has fallen far under its own pace, and names who uses the CPU cores."""

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from batchopt.machine import cores
from batchopt.record.statuses import Phase

FALLEN = 3
"""Slow is a run whose last steps took so many times as long as its steps usually do."""

LAST = 3
"""Steps that are looked at, the one in progress among them. Single steps differ in their length."""

ENOUGH = 8
"""Steps from which on a run has a pace."""

REMEMBERED = 500

AT_LEAST_S = 2.0
"""Shorter delays are none that a person would want to hear of."""

WINDOW_S = 1.0
"""So long the cores are watched before somebody is named."""


class Pace:
    """Follows the messages of one training process.

    Args:
        pid: The training process.
        read: Reads what every process has used of the cores.
    """

    def __init__(
        self, pid: int, read: Callable[[int], cores.Usage | None] = cores.read_usage_beside
    ) -> None:
        self._pid = pid
        self._read = read
        self._steps: deque[float] = deque(maxlen=REMEMBERED)
        self._ended_at: float | None = None
        """When the last step ended, or the training began; None while it does not train."""
        self._before: cores.Usage | None = None
        self._told = False

    def take(self, message: Mapping[str, Any], now: float) -> None:
        """Takes a message that came at the time `now`, in seconds of a monotonic clock."""
        if "phase" in message:
            self._ended_at = now if message["phase"] == Phase.train else None
        if "step" in message and self._ended_at is not None:
            self._steps.append(now - self._ended_at)
            self._ended_at = now
        if "outcome" in message:
            self._ended_at = None

    def look(self, now: float) -> str | None:
        """A sentence if the run has become slow, once until it has its pace again."""
        if self._ended_at is None or len(self._steps) < ENOUGH:
            return None
        usual_s, last = LAST * median(self._steps), [*self._steps][-LAST:]
        took_s = sum(last[1:]) + now - self._ended_at
        if took_s < max(FALLEN * usual_s, AT_LEAST_S):
            self._before = None
            self._told = self._told and sum(last) > FALLEN / 2 * usual_s
        elif not self._told:
            others = self._others(now)
            self._told = others is not None
            if others is not None:
                return (
                    f"the run has fallen under a third of its pace: its last {LAST} steps take "
                    f"{took_s:.1f} s instead of {usual_s:.1f} s; {others}"
                )
        return None

    def _others(self, now: float) -> str | None:
        """Who uses the cores, in words; None until they have been watched for a while."""
        before = self._before = self._before or self._read(self._pid)
        if before is None or now - before.wall_s < WINDOW_S:
            return None
        usage = self._read(self._pid)
        others = None if usage is None else cores.between(before, usage)
        if others is None or others.cores < cores.NOTICED_CORES:
            return "no other process uses the CPU cores"
        return f"{others}. It goes on, and its speed will be marked as disturbed"
