"""Measures one run from outside, while it runs: memory by phase, and what a GPU tells.

The supervisor calls `sample` at its interval. The figures of the record are those of the phase
"train"; memory.jsonl holds the course of the whole run.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from batchopt import memory, nvml
from batchopt.run_files import MEMORY, append_jsonl


def find_device(kind: str) -> nvml.DeviceInfo | None:
    """Finds the GPU that a run on `device.kind` gets, the first visible one; None: the CPU.

    Raises:
        NvmlError: A GPU is demanded and NVML finds none.
    """
    if kind == "cpu":
        return None
    try:
        devices = nvml.visible_devices(os.environ)
    except nvml.NvmlError:
        if kind == "cuda":
            raise
        return None
    if not devices and kind == "cuda":
        raise nvml.DeviceNotFound("CUDA_VISIBLE_DEVICES leaves no GPU")
    return devices[0] if devices else None


@dataclass(slots=True)
class Tally:
    """Highest and mean of the values so far; None where there were none."""

    peak: float | None = None
    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Takes one value; None is no value."""
        if value is not None:
            self.peak = value if self.peak is None else max(self.peak, value)
            self.total += value
            self.count += 1

    @property
    def mean(self) -> float | None:
        """The mean of the values."""
        return self.total / self.count if self.count else None


class Measurement:
    """Follows the process `pid` of a run, on `device` or on the CPU.

    A context manager. memory.jsonl gets the highest value of each window; windows grow with the
    run, so that the file stays at some thousand lines however long it takes.
    """

    def __init__(
        self, run_dir: Path, pid: int, monitor: nvml.DeviceMonitor | None, started: float
    ) -> None:
        """Takes the open monitor of a GPU, and the start of the run by `time.monotonic`."""
        self.path = run_dir / MEMORY
        self.pid = pid
        self.phase = "load"
        self.started = started
        self.host = Tally()
        self.baseline: memory.ProcessMemory | None = None
        self.monitor = monitor
        # NVML's own figure where it gives one, else the device's above its baseline; no mixture.
        self.by_process, self.above_baseline = Tally(), Tally()
        self.power, self.utilization = Tally(), Tally()
        self.energy_j: float | None = None
        self._window: dict[str, Any] | None = None
        self._window_ends_s = 0.0
        self._pids: Sequence[int] = (pid,)

    def enter(self, phase: str) -> None:
        """Takes note that another phase of the run begins."""
        if phase == self.phase:
            return
        self.sample()
        self._write_window()
        self.phase = phase
        if phase == "train":
            memory.reset_peak(self.pid)

    def sample(self) -> None:
        """Reads everything once.

        Raises:
            DeviceLost: The GPU fell off the bus.
        """
        host = memory.read_process_memory(self.pid)
        if host is None:
            return
        if self.phase == "load":
            self.baseline = host
        if self.phase == "train":
            self.host.add(host.anonymous_bytes)
            # Between two samples memory may have been higher. The kernel's high-water mark misses
            # nothing; it counts file pages too, which are the same before and after.
            peak = (host.peak_resident_bytes or 0) - host.file_bytes
            self.host.peak = max(self.host.peak or 0, peak)
        row: dict[str, Any] = {"memory_bytes": host.anonymous_bytes}
        if self.monitor is not None:
            row = self._sample_device(self.monitor)
        self._extend_window(row)

    def metrics(self, *, on_device: bool) -> dict[str, Any]:
        """The figures of the record that were measured from outside.

        Args:
            on_device: The run used the GPU that was watched; False where it found it unusable.
        """
        if self.monitor is None or not on_device:
            used, source = self.host, memory.SOURCE
            baseline = self.baseline.anonymous_bytes if self.baseline else None
        else:
            by_process = self.by_process.count > 0
            used = self.by_process if by_process else self.above_baseline
            source = "nvml_process" if by_process else "nvml_device_minus_baseline"
            baseline = self.monitor.baseline_used_bytes
        return {
            "peak_memory_bytes": _whole(used.peak),
            "mean_memory_bytes": _whole(used.mean),
            "baseline_memory_bytes": baseline,
            "memory_source": source if used.count else None,
            "energy_j": self.energy_j,
            "mean_power_w": self.power.mean,
            "mean_utilization": self.utilization.mean,
        }

    def close(self) -> None:
        """Writes what is still to be written."""
        self._write_window()

    def __enter__(self) -> "Measurement":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sample_device(self, monitor: nvml.DeviceMonitor) -> dict[str, Any]:
        # Children of the worker (data loaders) may hold memory of the device too.
        try:
            children = psutil.Process(self.pid).children(recursive=True)
            self._pids = (self.pid, *(child.pid for child in children))
        except psutil.NoSuchProcess:
            pass
        reading = monitor.sample(self._pids)
        self.energy_j = reading.energy_j
        above = None
        if reading.device_used_bytes is not None and monitor.baseline_used_bytes is not None:
            # A neighbour that leaves takes the device below its baseline.
            above = max(0, reading.device_used_bytes - monitor.baseline_used_bytes)
        if self.phase == "train":
            self.by_process.add(reading.process_used_bytes)
            self.above_baseline.add(above)
            self.power.add(reading.power_w)
            self.utilization.add(reading.utilization)
        process = reading.process_used_bytes
        return {
            "memory_bytes": above if process is None else process,
            "device_used_bytes": reading.device_used_bytes,
            "utilization": reading.utilization,
            "power_w": reading.power_w,
            "temperature_c": reading.temperature_c,
        }

    def _extend_window(self, row: dict[str, Any]) -> None:
        now_s = time.monotonic() - self.started
        if self._window is None:
            self._window_ends_s = now_s + max(0.25, now_s / 400)
        highest = (self._window or {}).get("memory_bytes")
        if highest is not None and row["memory_bytes"] is not None:
            row["memory_bytes"] = max(highest, row["memory_bytes"])
        self._window = {"time_s": round(now_s, 3), "phase": self.phase, **row}
        if now_s >= self._window_ends_s:
            self._write_window()

    def _write_window(self) -> None:
        if self._window is not None:
            append_jsonl(self.path, self._window)
            self._window = None


def open_monitor(device: nvml.DeviceInfo | None, stack: ExitStack) -> nvml.DeviceMonitor | None:
    """Opens the monitor of a GPU until `stack` ends; None for the CPU."""
    return None if device is None else stack.enter_context(nvml.DeviceMonitor(device.uuid))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
