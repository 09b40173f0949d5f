"""Memory that ran out is told from every other ending."""

import resource
import signal

import pytest
import torch
from safetensors.torch import save_file

from batchopt.errors import RequestError
from batchopt.machine import cgroup
from batchopt.machine.cgroup import KernelKills
from batchopt.training.failures import describe, is_out_of_memory


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
        RuntimeError(
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
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
    [
        ValueError("shapes do not match"),
        RuntimeError("CUDA error: device-side assert"),
        RuntimeError("could not create a primitive descriptor for the matmul primitive"),
        KeyError(),
    ],
)
def test_a_bug_is_no_out_of_memory(error):
    assert describe(error)[0] == "failed"


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: unknown error",
        "Unable to determine the device handle for GPU0: GPU has fallen off the bus",
    ],
)
def test_a_lost_gpu_is_named_as_such(message):
    status, cause = describe(RuntimeError(f"{message}\nCUDA kernel errors might be"))
    assert (status, cause) == ("failed", f"the GPU was lost: {message}")


def test_cublas_that_fails_in_the_midst_of_a_run_is_a_bug_and_no_lack_of_memory():
    error = RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(`")
    assert describe(error)[0] == "failed"


def test_a_real_allocation_that_cannot_be_is_out_of_memory():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert describe(failure.value)[0] == "oom"


def test_the_cause_is_one_line():
    status, cause = describe(RequestError("data.train_file: gone\nmore"))
    assert (status, cause) == ("failed", "data.train_file: gone")
    assert describe(KeyError()) == ("failed", "KeyError")


@pytest.mark.parametrize("write", ["safetensors", "torch", "text"])
def test_a_file_that_may_not_grow_is_named_however_a_library_puts_it(write, tmp_path):
    """The libraries' own errors: safetensors raises its own type, torch tells of no reason."""
    ways = {
        "safetensors": lambda: save_file({"weights": torch.zeros(2**18)}, tmp_path / "file"),
        "torch": lambda: torch.save(torch.zeros(2**18), tmp_path / "file"),
        "text": lambda: (tmp_path / "file").write_text("x" * 2**20),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, before[1]))
        with pytest.raises(Exception) as failure:
            ways[write]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    status, cause = describe(failure.value)
    assert status == "failed"
    assert cause.startswith("the disk is full, or a file may not grow: ")


def test_a_killed_child_is_a_kill():
    killed = RuntimeError("the process that scores ROUGE ended with exit code -9; what")
    loader = RuntimeError("DataLoader worker (pid 123) is killed by signal: Killed. Details")
    assert {describe(killed)[0], describe(loader)[0]} == {"killed"}
    assert describe(RuntimeError("the process that scores ROUGE ended with exit code 1"))[0] == (
        "failed"
    )


def test_the_kernels_kills_are_those_of_the_own_cgroup(tmp_path, monkeypatch):
    """The machine's count grows with every job of everybody."""
    own, other = tmp_path / "memory.events", tmp_path / "vmstat"
    own.write_text("low 0\noom 1\noom_kill 3\noom_group_kill 0\n")
    other.write_text("pgpgin 5\noom_kill 7\n")
    monkeypatch.setattr(cgroup, "_counters", lambda: [own])
    kills = KernelKills()
    other.write_text("oom_kill 8\n")
    assert not kills.happened()
    own.write_text("oom_kill 4\n")
    assert kills.happened()
    own.unlink()
    assert not kills.happened(), "a cgroup that is gone says nothing"
