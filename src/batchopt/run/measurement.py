"""Measures one run from outside while it runs: memory by phase, and the counters of the GPU.

A thread of the supervisor samples. It alone speaks to NVML, and holds no lock while it does: a
driver that hangs takes this thread along and nothing else. The record's figures are those of the
training phase; memory.jsonl holds the samples of the whole run.
"""

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchopt.machine import cores, host_memory, nvml
from batchopt.machine.processes import Family
from batchopt.record.files import MEMORY, append_jsonl
from batchopt.record.statuses import Phase

SHARED_SAMPLES = 0.02
"""The timing is untrusted if this share of the training samples saw another process on the GPU or a
throttled clock. A single sample is no reason; some seconds in ten minutes are."""

FOREIGN_CORES = 0.1
"""Share of this machine's cores that other processes may use while a run trains on the CPU. Above
it the steps measurably wait: two trainings on two cores slow each other down more than twofold."""

FOREIGN_CORES_BESIDE_GPU = 0.5
"""The same while it trains on a GPU. What launches kernels needs a core of its own, and two logical
cores share one: above this share it waits for its turn, and the GPU for it."""

SILENCE_S = 1.0
"""Seconds without an answer from NVML from which on nobody watches the device."""

HELD_S = 1.0
"""Seconds for which a reading of the device waits for the news that the run had moved on to another
phase before it was taken: the supervisor may be late in reading them."""

GIB = 1 << 30

OUTSIDE_BYTES = 4 * GIB
"""More than a process has on a GPU outside torch's allocator: context, kernels, workspaces."""

HARMLESS_REASONS = frozenset({"sw_power_cap", "sync_boost", "display_clock_setting"})
"""Throttle reasons that most cards always show: a card at its power limit runs at its best."""


@dataclass(slots=True)
class Tally:
    """Highest and mean of the values so far; None without values."""

    peak: float | None = None
    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Adds one value; None is ignored."""
        if value is not None:
            self.peak = value if self.peak is None else max(self.peak, value)
            self.total += value
            self.count += 1

    @property
    def mean(self) -> float | None:
        """The mean of the values."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class _Reading:
    """A reading of the device, and when it was asked and answered by `time.monotonic`."""

    sample: nvml.DeviceSample
    asked_at: float
    answered_at: float


@dataclass(slots=True)
class PhaseMemory:
    """The memory of one phase, in bytes, by each way of measuring it. No figure mixes two."""

    host: Tally = field(default_factory=Tally)
    by_process: Tally = field(default_factory=Tally)
    by_newcomer: Tally = field(default_factory=Tally)
    above_baseline: Tally = field(default_factory=Tally)
    spent_s: float = 0.0
    unwatched_s: float = 0.0
    """The part of it in which the device gave no reading."""

    @property
    def is_watched(self) -> bool:
        """Whether what was read speaks for the whole phase."""
        return self.unwatched_s <= SHARED_SAMPLES * self.spent_s

    def on_device(self, reserved_bytes: int | None) -> tuple[Tally, str]:
        """The best of the figures of a GPU, and the name of its source."""
        for source in ("nvml_process", "nvml_newcomer"):
            used = self.by_source(source)
            # A newcomer that has less than the run's own allocator is not the run.
            if used.peak is not None and used.peak >= (reserved_bytes or 0):
                return used, source
        return self.by_source("nvml_device_minus_baseline"), "nvml_device_minus_baseline"

    def by_source(self, source: str) -> Tally:
        """The figures of one source; none where they do not speak for the whole phase."""
        if not self.is_watched:
            return Tally()
        return {
            "nvml_process": self.by_process,
            "nvml_newcomer": self.by_newcomer,
            "nvml_device_minus_baseline": self.above_baseline,
        }[source]


class Measurement:
    """Measures the process `pid` of a run, on the monitored GPU or on the CPU.

    A context manager that samples in a thread from entry to exit. memory.jsonl gets the highest
    value of each window. Windows grow with the run, so that the file has some thousand lines,
    however long the run takes.

    Args:
        run_dir: The directory of memory.jsonl.
        pid: The run's process; its children count too.
        monitor: The open monitor of a GPU; None on the CPU.
        interval_s: Seconds between two samples.
        started: The start of the run by `time.monotonic`; the time of earlier attempts counts.
        attempt: Number of the attempt, for memory.jsonl.
    """

    def __init__(
        self,
        run_dir: Path,
        pid: int,
        monitor: nvml.DeviceMonitor | None,
        *,
        interval_s: float,
        started: float,
        attempt: int = 1,
    ) -> None:
        self.path = run_dir / MEMORY
        self.pid = pid
        self.monitor = monitor
        self.interval_s = interval_s
        self.started = started
        self.attempt = attempt
        self.phase = Phase.load
        self.phases: defaultdict[Phase, PhaseMemory] = defaultdict(PhaseMemory)
        self.baseline: host_memory.ProcessMemory | None = None
        self.power, self.utilization, self.temperature = Tally(), Tally(), Tally()
        self.energy_j: float | None = None
        self.error: nvml.NvmlError | None = None
        """The error that ended the sampling: the GPU is lost."""
        self.last_host_bytes: int | None = None
        """Resident anonymous memory at the last sample."""
        self._disturbances: Counter[str] = Counter()
        self._held: deque[_Reading] = deque()
        """Readings that are in no figure yet, the oldest first."""
        self._readings = 0
        """Readings of the device while the run trained."""
        self._foreign_cores = _ForeignCores(pid)
        self._window: dict[str, Any] | None = None
        self._window_ends_s = 0.0
        self._family = Family(pid)
        now = time.monotonic()
        self._entered_at = self._watched_at = now
        self._asked_at: float | None = None
        """Since when NVML has not answered; None while it is not asked."""
        self._failing = False
        self._could_read = False
        # The thread samples while the supervisor enters phases. Never held while NVML is asked.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.ready = threading.Event()
        """Set after the first sample."""
        self._thread = threading.Thread(target=self._run, name="batchopt-measurement", daemon=True)

    def __enter__(self) -> "Measurement":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # A driver that hangs must not delay the record.
        self._thread.join(timeout=SILENCE_S)
        with self._lock:
            self._settle(time.monotonic())
            self._count_phase(time.monotonic())
            if self._failing or self._thread.is_alive():
                self.energy_j = None  # what came after the last reading is not in it
            self._write_window()

    @property
    def silent_s(self) -> float:
        """How long NVML has not answered, in seconds."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def enter(
        self, phase: Phase, peak_bytes: int | None = None, began_at: float | None = None
    ) -> None:
        """Begins another phase of the run. Does not wait for NVML.

        Args:
            phase: The phase that begins.
            peak_bytes: The kernel's high-water mark of anonymous memory in the phase that ended.
                The run reads it at the boundary; samples alone could miss it.
            began_at: When the run began it, by `time.monotonic`, which is one clock for all
                processes; None: now. A reading that was taken across that moment is in no phase.
        """
        with self._lock:
            self._sample_host()
            host = self.phases[self.phase].host
            if peak_bytes is not None:
                host.peak = max(host.peak or 0, peak_bytes)
            if phase != self.phase:
                self._settle(time.monotonic() if began_at is None else began_at)
                self._held.clear()
                self._count_phase(time.monotonic())
                self._write_window()
                if Phase.train in (phase, self.phase):
                    self._foreign_cores.turn(on=phase is Phase.train)
                self.phase = phase

    def sample(self) -> None:
        """Reads everything once; waits for NVML.

        Raises:
            DeviceLost: The GPU fell off the bus.
        """
        with self._lock:
            lives = self._sample_host()
        if not lives or self.monitor is None:
            return
        pids = self._family.pids()
        asked_at = self._asked_at = time.monotonic()
        try:
            sample = self.monitor.sample(pids)
        finally:
            self._asked_at = None
        answered_at = time.monotonic()
        with self._lock:
            # A reading during which the phase changed belongs to neither.
            if not self._stop.is_set() and asked_at >= self._entered_at:
                self._held.append(_Reading(sample, asked_at, answered_at))
            self._settle(answered_at - HELD_S)

    def _sample_host(self) -> bool:
        """Reads the memory of the process; returns whether it lives."""
        host = host_memory.read_process_memory(self.pid)
        if host is None:
            return False
        self.last_host_bytes = host.anonymous_bytes
        self.phases[self.phase].host.add(host.anonymous_bytes)
        if self.phase is Phase.load:
            self.baseline = host
        if self.monitor is None:
            self._extend_window({"memory_bytes": host.anonymous_bytes})
        return True

    def _settle(self, until: float) -> None:
        """Adds the readings that were answered by then to the figures of the phase."""
        while self._held and self._held[0].answered_at <= until:
            self._take(self._held.popleft())

    def _count_phase(self, now: float) -> None:
        """Adds the time of the phase that ends, and what of it nobody watched."""
        phase = self.phases[self.phase]
        phase.spent_s += now - self._entered_at
        if self._failing or self.silent_s > SILENCE_S:
            phase.unwatched_s += now - self._watched_at
        self._entered_at = self._watched_at = now

    def metrics(self, *, on_device: bool, reserved_bytes: int | None = None) -> dict[str, Any]:
        """The metrics of the record that are measured from outside.

        Args:
            on_device: Whether the run used the monitored GPU; torch may not be able to use it.
            reserved_bytes: The most that torch's allocator had in the training, by its own count.
        """
        with self._lock:
            self._settle(time.monotonic())
        train, evaluate = self.phases[Phase.train], self.phases[Phase.evaluate]
        monitor = self.monitor if on_device else None
        if monitor is None:
            used, in_evaluation, source = train.host, evaluate.host, host_memory.SOURCE
            baseline = self.baseline.anonymous_bytes if self.baseline else None
            untrusted = self._foreign_cores.reasons(FOREIGN_CORES)
        else:
            used, source = train.on_device(reserved_bytes)
            in_evaluation = evaluate.by_source(source)
            baseline = monitor.baseline_used_bytes
            untrusted = self._device_reasons(train)
            untrusted += self._foreign_cores.reasons(FOREIGN_CORES_BESIDE_GPU)
            if hidden := _hidden_bytes(used, source, reserved_bytes):
                untrusted.append(
                    f"the device held {hidden / GIB:.1f} GiB more than torch's allocator: "
                    "somebody whom NVML does not list used it too"
                )
                used = in_evaluation = Tally()
        watched = monitor is not None and train.is_watched
        return {
            "peak_memory_bytes": _whole(used.peak),
            "mean_memory_bytes": _whole(used.mean),
            "eval_peak_memory_bytes": _whole(in_evaluation.peak),
            "baseline_memory_bytes": baseline,
            "memory_source": source if used.count else None,
            "energy_j": self.energy_j if monitor else None,
            "energy_source": monitor.energy_source if monitor else None,
            "mean_power_w": self.power.mean if watched else None,
            "mean_utilization": self.utilization.mean if watched else None,
            "peak_temperature_c": _whole(self.temperature.peak) if watched else None,
            "timing_untrusted": untrusted,
        }

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.sample()
            except nvml.NvmlError as error:
                self.error = error
                return
            finally:
                self.ready.set()
            # If a reading takes long (a busy driver), read seldom: it must not become a load.
            took = time.monotonic() - began
            if self._stop.wait(max(self.interval_s, 20 * took)):
                return

    def _take(self, held: _Reading) -> None:
        """Adds one reading of the device to the figures of the phase."""
        assert self.monitor is not None
        phase, reading, now = self.phases[self.phase], held.sample, held.answered_at
        was_watched = now - held.asked_at <= SILENCE_S and not self._failing
        can_read = (reading.process_used_bytes, reading.device_used_bytes) != (None, None)
        # A card without such readings does not fail; one that had them does.
        self._could_read |= can_read
        self._failing = self._could_read and not can_read
        if not self._failing:
            phase.unwatched_s += 0.0 if was_watched else now - self._watched_at
            self._watched_at = now
            self.energy_j = reading.energy_j
        above = None
        if (
            reading.device_used_bytes is not None
            and self.monitor.baseline_used_bytes is not None
            and reading.others_added_bytes is not None
        ):
            added = reading.device_used_bytes - self.monitor.baseline_used_bytes
            # If a neighbour whom NVML does not list leaves, the device falls below its baseline.
            above = max(0, added - reading.others_added_bytes)
        phase.by_process.add(reading.process_used_bytes)
        phase.by_newcomer.add(reading.newcomer_used_bytes)
        phase.above_baseline.add(above)
        if self.phase is Phase.train:
            self.power.add(reading.power_w)
            self.utilization.add(reading.utilization)
            self.temperature.add(reading.temperature_c)
            self._readings += 1
            for pid in reading.foreign_pids or ():
                self._disturbances[f"another process (pid {pid}) used the device"] += 1
            for reason in set(reading.throttle_reasons or ()) - HARMLESS_REASONS:
                self._disturbances[f"the device throttled ({reason})"] += 1
        own = (reading.process_used_bytes, reading.newcomer_used_bytes, above)
        self._extend_window(
            {
                "memory_bytes": next((used for used in own if used is not None), None),
                "device_used_bytes": reading.device_used_bytes,
                "utilization": reading.utilization,
                "power_w": reading.power_w,
                "temperature_c": reading.temperature_c,
                "energy_j": reading.energy_j,
            },
            at=now,
        )

    def _device_reasons(self, train: PhaseMemory) -> list[str]:
        reasons = [
            f"{what} in {seen / self._readings:.0%} of the samples"
            for what, seen in sorted(self._disturbances.items())
            if seen >= max(2, SHARED_SAMPLES * self._readings)
        ]
        if not train.is_watched:
            reasons.append(
                f"NVML gave no reading for {train.unwatched_s:.1f} of the {train.spent_s:.1f} s of "
                "the training: nobody knows who else used the device"
            )
        return reasons

    def _extend_window(self, row: dict[str, Any], at: float | None = None) -> None:
        """Adds a row, read at a time of `time.monotonic`, or now."""
        now_s = (time.monotonic() if at is None else at) - self.started
        if self._window is None:
            self._window_ends_s = now_s + max(0.25, now_s / 400)
        highest = (self._window or {}).get("memory_bytes")
        if highest is not None and row["memory_bytes"] is not None:
            row["memory_bytes"] = max(highest, row["memory_bytes"])
        head = {"time_s": round(now_s, 3), "attempt": self.attempt, "phase": self.phase}
        self._window = head | row
        if now_s >= self._window_ends_s:
            self._write_window()

    def _write_window(self) -> None:
        if self._window is not None:
            # On a full disk the file has a gap; the figures do not come from the file.
            with suppress(OSError):
                append_jsonl(self.path, self._window)
            self._window = None


class _ForeignCores:
    """Measures how many cores other processes used while a run trained."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since: cores.Usage | None = None
        self._wall_s = self._foreign_s = 0.0
        self._largest: tuple[float, str] = (0.0, "")

    def turn(self, *, on: bool) -> None:
        """Starts or pauses the measurement."""
        now = self._read()
        if not on and self._since is not None and now is not None:
            others = cores.between(self._since, now)
            self._wall_s += others.wall_s
            self._foreign_s += others.cores * others.wall_s
            for most in others.busiest[:1]:
                used_s = most.cores * others.wall_s
                if used_s > self._largest[0]:
                    self._largest = used_s, f"{most.name}, pid {most.pid}"
        self._since = now if on else None

    def reasons(self, share: float) -> list[str]:
        """Why the timing is not to be trusted; empty if others used at most this share."""
        self.turn(on=False)
        usable = cores.usable()
        # The kernel counts in hundredths of a second: a short time is not measured well.
        if self._wall_s < 1.0 or self._foreign_s < share * usable * self._wall_s:
            return []
        used = self._foreign_s / self._wall_s
        most = f" (most of it: {self._largest[1]})" if self._largest[1] else ""
        return [
            f"other processes used {used:.1f} of {usable} CPU cores while the run trained{most}"
        ]

    def _read(self) -> cores.Usage | None:
        return cores.read_usage_beside(self._pid)


def open_monitor(
    device: nvml.DeviceInfo | None,
    stack: ExitStack,
    give_up: Callable[[], bool] = lambda: False,
) -> nvml.DeviceMonitor | None:
    """Opens the monitor of a GPU until `stack` ends; None for the CPU.

    Args:
        device: The GPU.
        stack: Closes the monitor, unless the driver hangs then.
        give_up: Asked again and again whether to wait no longer for the driver.

    Raises:
        NvmlError: The device cannot be watched.
    """
    if device is None:
        return None
    monitor = nvml.in_time(device.uuid, lambda: nvml.DeviceMonitor(device.uuid), give_up=give_up)

    def close() -> None:
        with suppress(nvml.NvmlError):
            nvml.in_time(monitor.uuid, monitor.close, within_s=SILENCE_S)

    stack.callback(close)
    return monitor


def _hidden_bytes(used: Tally, source: str, reserved_bytes: int | None) -> float:
    """What of the memory of a whole device cannot be the run's; 0 where that is not known."""
    if source != "nvml_device_minus_baseline" or used.peak is None or not reserved_bytes:
        return 0.0
    more = used.peak - reserved_bytes
    return more if more > OUTSIDE_BYTES else 0.0


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
