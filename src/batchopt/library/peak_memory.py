"""The peak memory of a piece of training in this very process, and the most that it may be.

On the CPU it is the resident anonymous memory of the process, as in the record of a run. On CUDA it
is what torch's allocator has reserved, and what the process has outside it where NVML tells.
"""

import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psutil
import torch

from batchopt.machine import cgroup, host_memory
from batchopt.training.allocator import own_device_bytes


class PeakMemory(Protocol):
    """Measures and limits the memory of the training on one kind of device."""

    source: str
    """How it is measured, by the names of `memory_source`."""

    @property
    def budget_bytes(self) -> int:
        """The most that the process may take."""

    def limited(self, held_bytes: int) -> Any:
        """A context: memory is trimmed and the peak starts anew; more than the budget is refused.

        Args:
            held_bytes: Host memory of copies that no training would have; it is not counted.
        """

    def peak_bytes(self, held_bytes: int) -> int:
        """The peak since `limited` was entered."""


def peak_memory(device: torch.device, limit_bytes: int | None) -> PeakMemory:
    """Makes the measurement of a device.

    Args:
        device: Where the training runs.
        limit_bytes: The most that the process may take; None: what is free on the device, and what
            the process has already.
    """
    if device.type == "cuda":
        return OnCuda(device, limit_bytes, torch.cuda, own_device_bytes(device.index or 0))
    return OnCpu(limit_bytes)


class OnCpu:
    """Resident anonymous memory of the process, by the kernel's high-water mark."""

    source = host_memory.SOURCE

    def __init__(self, limit_bytes: int | None) -> None:
        now = host_memory.read_process_memory(os.getpid())
        own = now.anonymous_bytes if now else 0
        if limit_bytes is not None and own > limit_bytes:
            raise MemoryError(
                f"memory_limit_gib is {limit_bytes / 2**30:.2f}, and this process has "
                f"{own / 2**30:.2f} GiB before the training; name a larger limit"
            )
        if limit_bytes is None:
            free = int(psutil.virtual_memory().available) + own
            limit_bytes = min(free, cgroup.memory_limit() or free)
        self.budget_bytes = limit_bytes

    @contextmanager
    def limited(self, held_bytes: int) -> Iterator[None]:
        """See `PeakMemory`. The kernel refuses more, so that it need not kill the process."""
        gc.collect()
        host_memory.trim()
        host_memory.reset_peak(os.getpid())
        before = resource.getrlimit(resource.RLIMIT_DATA)
        host_memory.limit_anonymous(self.budget_bytes + held_bytes)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)

    def peak_bytes(self, held_bytes: int) -> int:
        """See `PeakMemory`."""
        return (host_memory.take_peak() or 0) - held_bytes


class OnCuda:
    """What torch's allocator has reserved, and what the process has outside it.

    Args:
        device: The GPU.
        limit_bytes: See `peak_memory`.
        cuda: `torch.cuda`, or what reads like it.
        process_bytes: Reads what the process has on the device now; None where nobody knows.
    """

    source = "torch_reserved"

    def __init__(
        self,
        device: torch.device,
        limit_bytes: int | None,
        cuda: Any,
        process_bytes: Callable[[], int | None],
    ) -> None:
        self._device = device
        self._cuda = cuda
        self._process_bytes = process_bytes
        self._limit_bytes = limit_bytes

    @property
    def budget_bytes(self) -> int:
        """See `PeakMemory`; it is read anew, since the first kernels take memory of their own."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        free, _ = self._cuda.mem_get_info(self._device)
        return int(free + self._cuda.memory_reserved(self._device) + self._outside())

    @contextmanager
    def limited(self, held_bytes: int) -> Iterator[None]:
        """See `PeakMemory`."""
        gc.collect()
        self._cuda.empty_cache()
        self._cuda.reset_peak_memory_stats(self._device)
        before = self._cuda.get_per_process_memory_fraction(self._device)
        total = self._cuda.mem_get_info(self._device)[1]
        share = max(0.0, min(1.0, (self.budget_bytes - self._outside()) / total))
        self._cuda.set_per_process_memory_fraction(share, self._device)
        try:
            yield
        finally:
            self._cuda.set_per_process_memory_fraction(before, self._device)

    def peak_bytes(self, held_bytes: int) -> int:
        """See `PeakMemory`."""
        return int(self._cuda.max_memory_reserved(self._device)) + self._outside()

    def _outside(self) -> int:
        """The context of CUDA and the kernels of its libraries."""
        used = self._process_bytes()
        return 0 if used is None else max(0, used - int(self._cuda.memory_reserved(self._device)))
