"""Memory that ran out is told from every other ending."""

import pytest
import torch

from batchopt.errors import RequestError
from batchopt.failures import describe, is_out_of_memory


def wrapped(cause):
    try:
        try:
            raise cause
        except type(cause) as error:
            raise ValueError("in a wrapper") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        OSError(12, "Cannot allocate memory"),
        wrapped(RuntimeError("CUDA error: out of memory")),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_each_way_to_say_out_of_memory_is_understood(error):
    assert is_out_of_memory(error)
    assert describe(error)[0] == "oom"


@pytest.mark.parametrize(
    "error",
    [ValueError("shapes do not match"), RuntimeError("CUDA error: device-side assert"), KeyError()],
)
def test_a_bug_is_no_out_of_memory(error):
    assert describe(error)[0] == "failed"


def test_a_real_allocation_that_cannot_be_is_out_of_memory():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert describe(failure.value)[0] == "oom"


def test_the_cause_is_one_line():
    status, cause = describe(RequestError("data.train_file: gone\nmore"))
    assert (status, cause) == ("failed", "data.train_file: gone")
    assert describe(KeyError()) == ("failed", "KeyError")
