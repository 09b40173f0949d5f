"""What several test modules share: leases and a cache of their own, and a scripted NVML."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.fake_nvml import FakeNvml

from batchopt.evaluation import rouge_process
from batchopt.evaluation.rouge_process import RougeProcess

# Tests run side by side: with a thread for each core, torch's would wait for one another. Set
# before anything imports torch, and inherited by the runs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test fetches anything from a hub; a test of it names a server of its own.
os.environ["HF_HUB_OFFLINE"] = "1"


# The same examples every time, so that a change is refused for its own faults alone. To search for
# others: FUZZ_EXAMPLES=1000 pytest tests/request/test_fuzz.py
if "FUZZ_EXAMPLES" not in os.environ:
    settings.register_profile("same", derandomize=True)
    settings.load_profile("same")


# Behind a shell's `&` SIGINT is ignored, and would be in every program that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Test modules import torch and transformers, whose objects the collector would walk for ever.
gc.disable()


def pytest_collection_finish() -> None:
    """Collects again, and leaves out what the imports made."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def leases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests' runs wait for one another, and not for what else trains on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHOPT_LEASE_DIR", str(tmp_path_factory.mktemp("leases")))
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tokens and trained tokenizers are, so that runs of one kind prepare them once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def one_scorer() -> Iterator[None]:
    """Trainings in the process of the tests share their scoring process: one takes 1 to 4 s of CPU.

    The runs of the command line have their own, and the tests of it make it by its name.
    """
    living: dict[tuple[str, bool], RougeProcess] = {}

    def shared(tokenizer: str, *, use_stemmer: bool = False) -> RougeProcess:
        kind = tokenizer, use_stemmer
        if kind not in living or living[kind]._process.poll() is not None:
            living[kind] = RougeProcess(tokenizer, use_stemmer=use_stemmer)
        return living[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rouge_process, "RougeProcess", shared)
        yield


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """Built once, with gcc."""
    return FakeNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def fake(library: FakeNvml) -> Iterator[FakeNvml]:
    """Loaded and empty; scripted by the test."""
    library.reset()
    with library.loaded():
        yield library
