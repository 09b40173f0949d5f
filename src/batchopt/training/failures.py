"""Turns the exception that ended a run into a status and a cause."""

import errno
import re
from collections.abc import Iterator

from batchopt.errors import RequestError, first_line
from batchopt.record.statuses import Status

_OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    # Nothing else keeps cuBLAS from starting on a device that has just computed.
    "cublas_status_not_initialized when calling `cublascreate",
    "cublas_status_not_initialized when calling cublascreate",
    "cudnn_status_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    # Python says this if the stack of a thread cannot be mapped.
    "can't start new thread",
)
"""The words of torch, the CUDA libraries and the CPU allocators for it, in lower case."""

_ONEDNN = ("could not create a primitive", "could not create a memory object")
"""All that oneDNN says of an allocation that failed. "could not create a primitive descriptor for"
means another thing: an operation that it does not have."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, means that memory ran out."""
    return _out_of_memory(error) is not None


def _out_of_memory(error: BaseException) -> BaseException | None:
    """The exception in the chain that means it, or None.

    Neither the test of accelerate nor the type of the exception is enough: a CUDA library reports a
    failed allocation as a plain RuntimeError.
    """
    for one in _chain(error):
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError":
            return one
        if isinstance(one, RuntimeError | OSError):
            said = str(one).lower()
            if said in _ONEDNN or any(words in said for words in _OUT_OF_MEMORY):
                return one
    return None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _full_disk(error: BaseException) -> BaseException | None:
    """The exception in the chain that means that a file could not grow, or None."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return one
        # Neither safetensors nor torch raises an OSError, and torch gives no reason.
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


def describe(error: BaseException) -> tuple[Status, str]:
    """Returns the status and the cause, one sentence, of a run that raised."""
    if (out_of_memory := _out_of_memory(error)) is not None:
        return Status.oom, f"out of memory: {first_line(out_of_memory)}".rstrip(": ")
    said = first_line(error)
    if isinstance(error, RequestError):
        return Status.failed, said
    if (full := _full_disk(error)) is not None:
        cause = f"the disk is full, or a file may not grow: {first_line(full)}"
        return Status.failed, f"{cause}; free space and resume the sweep"
    if _CHILD_KILLED.search(str(error)):
        return Status.killed, f"a process of the run was killed: {said}"
    if _GPU_LOST.search(str(error)):
        return Status.failed, f"the GPU was lost: {said}"
    return Status.failed, f"{type(error).__name__}: {said}".rstrip(": ")


_CHILD_KILLED = re.compile(r"DataLoader worker \(pid|scores ROUGE ended with exit code -9")

_GPU_LOST = re.compile(
    r"CUDA error: (?:uncorrectable (?:ECC|NVLink)|unknown error|device (?:unavailable|not ready)"
    r"|no CUDA-capable device|the launch timed out|all CUDA-capable devices are busy"
    r"|CUDA-capable device\(s\) is/are busy|hardware stack error|system not yet initialized"
    r"|Invalid access of peer GPU memory over nvlink)"
    r"|fallen off the bus",
    re.IGNORECASE,
)
"""Errors that say something about the card and nothing about the run, as `cudaGetErrorString` words
them: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html."""
