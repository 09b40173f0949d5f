"""What torch's caching allocator of CUDA holds, phase by phase, and the most that it may hold."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from batchopt.machine import nvml
from batchopt.record.statuses import Phase


@dataclass(slots=True)
class Peak:
    """The peaks of one phase, in bytes."""

    allocated: int = 0
    reserved: int = 0


class Allocator:
    """Keeps the peaks of the phases apart.

    The first optimizer steps are a phase of their own: the allocator and the libraries' workspaces
    are still growing then. What the allocator caches is given back between training and evaluation,
    or each would seem to need what the other left there.

    Args:
        cuda: `torch.cuda`, or what reads like it.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._phase: str = Phase.load
        self.peaks: dict[str, Peak] = {}

    def enter(self, phase: str) -> None:
        """Begins a phase; keeps the peaks of the one before."""
        self._keep()
        if phase != self._phase and "evaluate" in (phase, self._phase):
            self._cuda.empty_cache()
        self._phase = phase
        self._cuda.reset_peak_memory_stats()

    def metrics(self) -> dict[str, int | None]:
        """The metrics of the record.

        Tensors hold the allocated memory; the allocator has reserved more from the driver. The
        difference at the peak is fragmentation and cache.
        """
        self._keep()
        stats = self._cuda.memory_stats()
        training = [self.peaks[name] for name in ("first_steps", Phase.train) if name in self.peaks]
        evaluation = self.peaks.get(Phase.evaluate, Peak())
        allocated = max((peak.allocated for peak in training), default=None)
        reserved = max((peak.reserved for peak in training), default=None)
        return {
            "peak_allocated_bytes": allocated,
            "peak_reserved_bytes": reserved,
            "fragmentation_bytes": None
            if allocated is None or reserved is None
            else reserved - allocated,
            "eval_peak_allocated_bytes": evaluation.allocated or None,
            "num_alloc_retries": stats.get("num_alloc_retries"),
            "num_ooms": stats.get("num_ooms"),
        }

    def _keep(self) -> None:
        peak = self.peaks.setdefault(self._phase, Peak())
        peak.allocated = max(peak.allocated, self._cuda.max_memory_allocated())
        peak.reserved = max(peak.reserved, self._cuda.max_memory_reserved())


class MemoryLimit(TrainerCallback):
    """Holds the training to device.memory_limit_gib on a GPU, from its first step on.

    Only after a step is there all that the process has outside the allocator: the context of CUDA
    and the kernels that its libraries load. It is in the budget, what neighbours use is not.

    Args:
        limit_bytes: What the process may have on the device.
        cuda: `torch.cuda`, or what reads like it.
        process_bytes: Reads what the process has on the device now; None where nobody knows.
    """

    def __init__(
        self, limit_bytes: int, cuda: Any, process_bytes: Callable[[], int | None]
    ) -> None:
        self._limit_bytes = limit_bytes
        self._cuda = cuda
        self._process_bytes = process_bytes
        self._set = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Sets the allocator's limit, once.

        Raises:
            MemoryError: The first step took more than the limit.
        """
        if self._set:
            return
        self._set = True
        total = self._cuda.mem_get_info()[1]
        used = self._process_bytes()
        outside = 0 if used is None else max(0, used - self._cuda.memory_reserved())
        needed = outside + self._cuda.max_memory_reserved()
        if needed > self._limit_bytes:
            raise MemoryError(
                f"the first step took {needed / 2**30:.2f} GiB, {outside / 2**30:.2f} of it "
                "outside torch's allocator, and device.memory_limit_gib is "
                f"{self._limit_bytes / 2**30:.2f}"
            )
        share = (self._limit_bytes - outside) / total
        self._cuda.set_per_process_memory_fraction(min(1.0, share))


def own_device_bytes(index: int = 0) -> Callable[[], int | None]:
    """Makes the reader of what this process has on its GPU; call it before CUDA starts here.

    Where NVML does not tell processes apart, that is what was added since, without what it knows to
    be of others.

    Args:
        index: Of the GPU, as torch counts them.
    """
    try:
        monitor = nvml.DeviceMonitor(nvml.visible_devices(os.environ)[index].uuid)
    except (nvml.NvmlError, IndexError):
        return lambda: None

    def read() -> int | None:
        sample = monitor.sample((os.getpid(),))
        own = (sample.process_used_bytes, sample.newcomer_used_bytes)
        if (known := next((used for used in own if used is not None), None)) is not None:
            return known
        now, before = sample.device_used_bytes, monitor.baseline_used_bytes
        others = sample.others_added_bytes
        return None if now is None or before is None or others is None else now - before - others

    return read
