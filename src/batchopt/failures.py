"""Names the ending of a run that raised: out of memory, or something else."""

from batchopt.errors import RequestError

_OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
)
"""How torch, CUDA's libraries and the allocators of the CPU say it, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, says that memory ran out.

    Neither accelerate's test nor the exception's type alone is enough: a CUDA library reports a
    failed allocation as a plain RuntimeError.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, MemoryError) or type(current).__name__ == "OutOfMemoryError":
            return True
        if isinstance(current, RuntimeError | OSError) and any(
            words in str(current).lower() for words in _OUT_OF_MEMORY
        ):
            return True
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False


def describe(error: BaseException) -> tuple[str, str]:
    """Returns the status and the cause, one sentence, of a run that raised."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    if is_out_of_memory(error):
        return "oom", f"out of memory: {first_line}".rstrip(": ")
    if isinstance(error, RequestError):
        return "failed", first_line
    return "failed", f"{type(error).__name__}: {first_line}".rstrip(": ")
