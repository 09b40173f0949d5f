"""Host memory of one process, as the kernel counts it."""

import contextlib
import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """One reading.

    `peak_resident_bytes` is the kernel's high-water mark since `reset_peak`, file pages
    included; None where the system keeps none.
    """

    anonymous_bytes: int
    file_bytes: int
    peak_resident_bytes: int | None


SOURCE = "process_anonymous"
"""Resident memory that no file backs: tensors, Python objects, the allocator's free lists."""


def read_process_memory(pid: int) -> ProcessMemory | None:
    """Reads the resident memory of a process; None where it has ended.

    Source: https://docs.kernel.org/filesystems/proc.html (RssAnon, RssFile, RssShmem, VmHWM).
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return _portable(pid)
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "RssAnon" not in fields:  # a zombie has no memory
        return None

    def size(name: str) -> int:
        return int(fields[name].split()[0]) * 1024

    return ProcessMemory(
        anonymous_bytes=size("RssAnon"),
        file_bytes=size("RssFile") + size("RssShmem"),
        peak_resident_bytes=size("VmHWM"),
    )


def reset_peak(pid: int) -> None:
    """Starts the kernel's high-water mark anew at what is resident now."""
    # Not ours, ended, or not Linux: the samples still give a peak.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def take_peak() -> int | None:
    """The highest anonymous memory of this process since the last call, by the kernel's count.

    The high-water mark counts file pages too; those that are resident now are taken off. Starts
    the mark anew. None where the system keeps none.
    """
    now = read_process_memory(os.getpid())
    reset_peak(os.getpid())
    if now is None or now.peak_resident_bytes is None:
        return None
    return max(now.anonymous_bytes, now.peak_resident_bytes - now.file_bytes)


def trim() -> None:
    """Gives back what the C library keeps of freed memory, where it can.

    What loading or an evaluation has left would serve the training, which would then seem to need
    less than it does. Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def limit_anonymous(limit_bytes: int) -> None:
    """Has the kernel refuse this process more anonymous memory than this, as a small card would.

    RLIMIT_DATA counts what is mapped for writing, touched or not (thread stacks, reserves of the
    allocator). What is mapped beyond the resident now is added to the limit, so that the limit is
    one of resident memory. Source: https://man7.org/linux/man-pages/man2/getrlimit.2.html

    Raises:
        MemoryError: More is resident already.
    """
    now = read_process_memory(os.getpid())
    mapped = _mapped_for_writing_bytes()
    if now is None or mapped is None:
        raise OSError("device.memory_limit_gib on the CPU needs Linux's /proc")
    if now.anonymous_bytes > limit_bytes:
        raise MemoryError(
            f"{now.anonymous_bytes / 2**30:.2f} GiB are in use before the training, and "
            f"device.memory_limit_gib is {limit_bytes / 2**30:.2f}"
        )
    limit = limit_bytes + mapped - now.anonymous_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def lift_limit() -> None:
    """Takes the limit back, for what has to be written once it was hit."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _mapped_for_writing_bytes() -> int | None:
    text = Path("/proc/self/status").read_text()
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith("VmData:")]
    return int(sizes[0]) * 1024 if sizes else None


def _portable(pid: int) -> ProcessMemory | None:
    """The same for systems without /proc: resident memory, whatever backs it."""
    if Path("/proc/self/status").exists():
        return None
    try:
        return ProcessMemory(psutil.Process(pid).memory_info().rss, 0, None)
    except psutil.NoSuchProcess:
        return None
