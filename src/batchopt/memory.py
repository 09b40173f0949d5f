"""Host memory of one process, as the kernel counts it."""

import contextlib
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


def _portable(pid: int) -> ProcessMemory | None:
    """The same for systems without /proc: resident memory, whatever backs it."""
    if Path("/proc/self/status").exists():
        return None
    try:
        return ProcessMemory(psutil.Process(pid).memory_info().rss, 0, None)
    except psutil.NoSuchProcess:
        return None
