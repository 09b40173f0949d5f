"""Where the time of an optimizer step goes."""

import time
from typing import Any

import torch

PARTS = ("data_wait_s", "forward_s", "backward_s", "optimizer_s")
"""Waiting for the data loader; forward passes; backward passes; clipping, AdamW and schedule."""


class StepClock:
    """Splits a step into laps.

    On a GPU the laps are marked in its own queue, so that splitting a step does not stop it.
    """

    def __init__(self, *, cuda: bool) -> None:
        self._cuda = cuda
        self._laps: list[tuple[str, Any, Any]] = []
        self._mark = self._now()

    def start(self) -> None:
        """Begins a lap; what went before it counts nowhere."""
        self._mark = self._now()

    def lap(self, part: str) -> None:
        """Ends a lap, which counts to `part`, and begins the next."""
        now = self._now()
        self._laps.append((part, self._mark, now))
        self._mark = now

    def take(self) -> dict[str, float]:
        """Seconds of each part since the last call; the device must have finished."""
        seconds = dict.fromkeys(PARTS, 0.0)
        for part, begin, end in self._laps:
            seconds[part] += self._between(begin, end)
        self._laps.clear()
        return seconds

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end) / 1e3 if self._cuda else end - begin)
