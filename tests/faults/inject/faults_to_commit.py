"""The faults by name, each as it would come: raised by the library, or done to the process."""

import ctypes
import errno
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


def commit(name, run_dir):
    FAULTS[name](run_dir)


def raising(make):
    def fault(_):
        raise make()

    return fault


def cuda_out_of_memory():
    import torch

    return torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 39.49 GiB "
        "of which 1.10 GiB is free."
    )


def wrapped(_):
    try:
        raise cuda_out_of_memory()
    except RuntimeError as error:
        raise ValueError("the batch could not be computed") from error


def refused_by_the_cpu_allocator(_):
    import torch

    torch.empty(2**50)


def eat(_):
    """Takes memory, and touches it, until somebody says no."""
    import torch

    kept = []
    while True:
        kept.append(torch.ones(2**23))


def fill_the_disk(run_dir):
    """Takes what is left, down to the last byte."""
    with suppress(OSError), (run_dir.parent / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def limit_file_size(_):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))


def kill_child(words):
    def fault(_):
        for child in psutil.Process().children():
            if words in " ".join(child.cmdline()):
                child.kill()

    return fault


def hang(_):
    while True:
        time.sleep(0.1)


def hang_natively(_):
    """No other thread runs, no handler of Python's either."""
    pow(3, 10**9)


def stop(_):
    os.kill(os.getpid(), signal.SIGSTOP)


def pause(run_dir: Path):
    """Waits where it is until the test has done what it wants to do."""
    mark = run_dir / "paused"
    mark.touch()
    while mark.exists():
        time.sleep(0.02)


def crawl(_):
    """A run that takes long, and goes on."""
    import batchopt.training.recorder

    begin = batchopt.training.recorder.Recorder.step_begins

    def slowly(recorder, step):
        time.sleep(0.5)
        begin(recorder, step)

    batchopt.training.recorder.Recorder.step_begins = slowly


def die_while_rotating(_):
    """Is killed with the first file of an old checkpoint removed."""
    import shutil

    def remove(folder, *_, **__):
        (Path(folder) / "optimizer.pt").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.rmtree = remove


FAULTS = {
    "torch.OutOfMemoryError": raising(cuda_out_of_memory),
    "CUDA error: out of memory": raising(lambda: RuntimeError("CUDA error: out of memory")),
    "cuBLAS": raising(
        lambda: RuntimeError(
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
        )
    ),
    "cuDNN": raising(lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    "CPU allocator": refused_by_the_cpu_allocator,
    "MemoryError": lambda _: bytes(2**60),
    "wrapped": wrapped,
    "eat": eat,
    "ENOSPC": raising(lambda: OSError(errno.ENOSPC, "No space left on device", "train.log")),
    "fill": fill_the_disk,
    "RLIMIT_FSIZE": limit_file_size,
    "bug": raising(lambda: KeyError("labels")),
    "ECC": raising(lambda: RuntimeError("CUDA error: uncorrectable ECC error encountered")),
    "segfault": lambda _: ctypes.string_at(0),
    "abort": lambda _: os.abort(),
    "os._exit": lambda _: os._exit(3),
    "sys.exit": lambda _: sys.exit(3),
    "SIGKILL": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "loader": kill_child("batchopt.training.worker"),
    "ROUGE": kill_child("batchopt.evaluation.rouge_process"),
    "hang": hang,
    "hang natively": hang_natively,
    "SIGSTOP": stop,
    "pause": pause,
    "crawl": crawl,
    "die while rotating": die_while_rotating,
}
