"""What several test modules share: the scripted NVML that the real pynvml talks to."""

from collections.abc import Iterator

import pytest
from fake_nvml import FakeNvml


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
