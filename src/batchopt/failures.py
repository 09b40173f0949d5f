"""Names the ending of a run: out of memory, or something else, and by what."""

import errno
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from batchopt.errors import RequestError

_OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    # What Python says where the stack of a thread cannot be mapped.
    "can't start new thread",
)
"""How torch, CUDA's libraries and the allocators of the CPU say it, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, says that memory ran out."""
    return _out_of_memory(error) is not None


def _out_of_memory(error: BaseException) -> BaseException | None:
    """The exception that says so.

    Neither accelerate's test nor the exception's type alone is enough: a CUDA library reports a
    failed allocation as a plain RuntimeError.
    """
    for one in _chain(error):
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError":
            return one
        if isinstance(one, RuntimeError | OSError) and any(
            words in str(one).lower() for words in _OUT_OF_MEMORY
        ):
            return one
    return None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _full_disk(error: BaseException) -> BaseException | None:
    """The exception that says that a file could not grow."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return one
        # Neither safetensors nor torch raises an OSError, and torch does not tell the reason.
        said = re.search(r"\(os error (\d+)\)", str(one))
        if said and int(said[1]) in _FULL:
            return one
        if re.search(r"inline_container\.cc.*unexpected pos|iostream error", str(one)):
            return one
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or current.__context__


def describe(error: BaseException) -> tuple[str, str]:
    """Returns the status and the cause, one sentence, of a run that raised."""
    if (out_of_memory := _out_of_memory(error)) is not None:
        return "oom", f"out of memory: {_first_line(out_of_memory)}".rstrip(": ")
    first_line = _first_line(error)
    if isinstance(error, RequestError):
        return "failed", first_line
    if (full := _full_disk(error)) is not None:
        cause = f"the disk is full, or a file may not grow: {_first_line(full)}"
        return "failed", f"{cause}; free space and resume the sweep"
    if _CHILD_KILLED.search(str(error)):
        return "killed", f"a process of the run was killed: {first_line}"
    if _GPU_LOST.search(str(error)):
        return "failed", f"the GPU was lost: {first_line}"
    return "failed", f"{type(error).__name__}: {first_line}".rstrip(": ")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


_CHILD_KILLED = re.compile(r"DataLoader worker \(pid|scores ROUGE ended with exit code -9")

_GPU_LOST = re.compile(
    r"CUDA error: (?:uncorrectable ECC|unknown error|device (?:unavailable|not ready)"
    r"|no CUDA-capable device|the launch timed out|all CUDA-capable devices are busy)"
    r"|fallen off the bus",
    re.IGNORECASE,
)
"""Errors that say something about the card and nothing about the run."""


def name_death(returncode: int) -> tuple[str, str]:
    """Returns status and cause of a process that ended without a word, by how it ended."""
    if returncode >= 0:
        cause = f"the training process ended with exit code {returncode} and no outcome"
        return "failed", cause
    try:
        name = signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        name = f"signal {-returncode}"
    crashes = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    if name in crashes:
        return "failed", f"the training process crashed ({name})"
    return "killed", f"the training process was ended from outside ({name})"


class KernelKills:
    """Tells whether the kernel killed a process for want of memory since this was made.

    The count is that of this process' own cgroup, which has every kill of the kernel in it, for
    whatever limit; without one that of the machine, where others are killed too. Source:
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events),
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (memory.oom_control).
    """

    def __init__(self) -> None:
        self._files = _counters()
        self._before = self._read()

    def happened(self) -> bool:
        """Whether any of the counts has grown."""
        return any(now > before for now, before in zip(self._read(), self._before, strict=True))

    def _read(self) -> list[int]:
        return [_count(file) or 0 for file in self._files]


def _counters() -> list[Path]:
    files = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        name = group.lstrip("/")
        if not controllers:
            files += [Path("/sys/fs/cgroup", name, "memory.events")]
        elif controllers == "memory":
            files += [Path("/sys/fs/cgroup/memory", name, "memory.oom_control")]
    own = [file for file in files if _count(file) is not None]
    return own or [Path("/proc/vmstat")]


def _count(file: Path) -> int | None:
    """None where the file is not there or does not count."""
    try:
        found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
