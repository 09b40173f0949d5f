"""Which drivers run which build of torch, told from files."""

from types import SimpleNamespace

import pytest
import torch

from batchopt.machine import torch_build


@pytest.mark.parametrize(
    ("cuda", "driver", "used"),
    [
        (None, "580.65.06", False),
        ("13.0", "580.65.06", True),
        ("13.0", "575.51.03", False),
        ("12.6", "525.60.13", True),
        ("12.6", "470.256.02", False),
        ("13.0", "R580 preview", True),  # who knows: torch will say
    ],
)
def test_a_build_and_a_driver_that_do_not_fit_are_told(cuda, driver, used, monkeypatch):
    monkeypatch.setattr(torch_build, "_version_facts", lambda: ("2.13.0", cuda, None))
    said = torch_build.why_unused(SimpleNamespace(driver_version=driver))
    assert (said is None) == used
    if said and cuda:
        assert cuda in said
        assert driver in said


def test_a_build_for_another_platform_is_told(monkeypatch):
    monkeypatch.setattr(torch_build, "_version_facts", lambda: ("2.13.0", None, "hip"))
    assert "hip" in torch_build.why_unused(SimpleNamespace(driver_version="580.1"))


def test_who_gets_a_gpu_that_torch_cannot_use_trains_on_the_cpu(monkeypatch):
    for cuda, driver, on_cpu in ((None, "580.1", True), ("13.0", "580.1", False)):
        monkeypatch.setattr(torch_build, "_version_facts", lambda cuda=cuda: ("2.13.0", cuda, None))
        assert torch_build.trains_on_cpu(SimpleNamespace(driver_version=driver)) == on_cpu
    assert torch_build.trains_on_cpu(None)


def test_the_files_say_what_torch_says():
    torch_build._version_facts.cache_clear()
    version, cuda, _ = torch_build._version_facts()
    assert (version, cuda) == (torch.__version__, torch.version.cuda)
