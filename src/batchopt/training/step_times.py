"""Splits the time of an optimizer step into its parts."""

import time
from dataclasses import dataclass
from typing import Any

import torch

PARTS = ("data_wait_s", "forward_s", "backward_s", "optimizer_s")
"""Waiting for the data loader; forward passes; backward passes; clipping, AdamW and schedule."""


LEFT_OUT = "left_out_s"


@dataclass(frozen=True, slots=True)
class Marks:
    """Where one step and its laps begin and end, as a `StepClock` marks it."""

    begin: Any
    end: Any
    laps: list[tuple[str, Any, Any]]


class StepClock:
    """Splits a step into laps.

    On a GPU the marks are events in its own queue: neither marking nor splitting a step stops it.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        self._device = torch.get_device_module(device)
        self._laps: list[tuple[str, Any, Any]] = []
        self.begin()

    def begin(self) -> None:
        """Begins a step, and its first lap; what went before counts nowhere."""
        self._laps = []
        self._begin = self._mark = self._now()

    def start(self) -> None:
        """Begins a lap; what went before it counts to no part of the step."""
        self._mark = self._now()

    def leave_out(self) -> None:
        """Ends a lap that counts neither to a part nor to the step: it only measured something."""
        self.lap(LEFT_OUT)

    def lap(self, part: str) -> None:
        """Ends a lap, adds it to `part`, and begins the next."""
        now = self._now()
        self._laps.append((part, self._mark, now))
        self._mark = now

    def end(self) -> Marks:
        """Ends the step."""
        return Marks(self._begin, self._now(), self._laps)

    def seconds(self, marks: Marks) -> dict[str, float]:
        """Seconds of a step (`duration_s`) and of its parts; the device must have finished it."""
        seconds = dict.fromkeys((*PARTS, LEFT_OUT), 0.0)
        for part, begin, end in marks.laps:
            seconds[part] += self._between(begin, end)
        left_out_s = seconds.pop(LEFT_OUT)
        return {"duration_s": self._between(marks.begin, marks.end) - left_out_s, **seconds}

    def _now(self) -> Any:
        if self._on_cpu:
            return time.perf_counter()
        event = self._device.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, begin: Any, end: Any) -> float:
        return float(end - begin if self._on_cpu else begin.elapsed_time(end) / 1e3)


@dataclass(frozen=True, slots=True)
class StepTiming:
    """One optimizer step. `attempt` and `per_device` say in which go, and how it was cut."""

    attempt: int
    per_device: int
    duration_s: float
    data_wait_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    examples: int
    micro_batches: int
    source_tokens: int
    target_tokens: int
    padded_source_tokens: int
    padded_target_tokens: int

    @property
    def real_tokens(self) -> int:
        """Source and target tokens of the examples."""
        return self.source_tokens + self.target_tokens

    @property
    def padded_tokens(self) -> int:
        """Source and target tokens as computed."""
        return self.padded_source_tokens + self.padded_target_tokens


WARMUP_STEPS = 10


def warmup_steps(steps: int) -> int:
    """The number of steps left out of the steady state: 10, or a fifth if there are fewer than 50.

    The first steps include lazy initialisation, cold caches and the growth of the allocator.
    """
    return min(WARMUP_STEPS, steps // 5)


def steady_steps(steps: list[StepTiming]) -> list[StepTiming]:
    """The steps that speed is measured on: of the last way to cut, without each go's warm-up."""
    steady: list[StepTiming] = []
    for attempt in dict.fromkeys(step.attempt for step in steps):
        own = [step for step in steps if step.attempt == attempt]
        if own[-1].per_device == steps[-1].per_device:
            steady += own[warmup_steps(len(own)) :]
    return steady
