"""`batchopt.verify` takes a device for itself, and shows CUDA that one alone."""

import os
import subprocess
import sys

import pytest
from support.fake_nvml import card, card_uuid

from batchopt.errors import RequestError
from batchopt.machine import lease
from batchopt.verify import __main__ as command
from batchopt.verify import proof

A, B = card_uuid(0), card_uuid(1)


@pytest.fixture
def seen(fake, monkeypatch, tmp_path):
    """Two cards; what CUDA would see, and which devices are leased, once the model is loaded."""
    fake.set(card(0) | card(1))
    monkeypatch.setenv("BATCHOPT_LEASE_DIR", str(tmp_path / "leases"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = {}

    def prepare(*_, **__):
        found["visible"] = os.environ["CUDA_VISIBLE_DEVICES"]
        found["taken"] = {name for name in (A, B, "cpu") if not is_free(name)}
        raise RequestError("enough seen")

    monkeypatch.setattr(proof, "prepare", prepare)
    return found


def is_free(name):
    with lease.Ticket([name], "a look") as ticket:
        taken = ticket.take()
        if taken is not None:
            taken.close()
        return taken is not None


def verify(kind, cache):
    words = ["data.train_examples=64", "data.validation_examples=4", f"cache_dir={cache}"]
    with pytest.raises(RequestError, match="enough seen"):
        command.main([*words, f"device.kind={kind}"])


def test_of_two_gpus_the_free_one_is_taken_and_shown_alone(seen, cache):
    with lease.Ticket([A], "a run") as ticket, ticket.take():
        verify("cuda", cache)
    assert seen == {"visible": B, "taken": {A, B}}
    assert is_free(B)


def test_on_the_cpu_no_gpu_is_shown(seen, cache):
    verify("cpu", cache)
    assert seen == {"visible": "", "taken": {"cpu"}}


def test_a_gpu_that_is_demanded_and_not_there_is_one_line(fake, tmp_path, cache, monkeypatch):
    monkeypatch.setenv("BATCHOPT_LEASE_DIR", str(tmp_path / "leases"))
    fake.set({"driver": None})
    with pytest.raises(RequestError, match=r"device\.kind is cuda: .*install the NVIDIA driver"):
        command.main(["data.train_examples=64", f"cache_dir={cache}", "device.kind=cuda"])


def test_the_short_form_before_a_sweep_does_the_same(seen, cache, tmp_path, monkeypatch):
    words = ["data.train_examples=64", "data.validation_examples=4", f"cache_dir={cache}"]
    jobs = [{"overrides": [*words, f"batch={name}", "device.kind=cuda"]} for name in ("05a", "05b")]
    monkeypatch.setattr(command, "read_json", lambda _: {"jobs": jobs})
    with pytest.raises(RequestError, match="enough seen"):
        command.main(["--sweep", str(tmp_path)])
    assert seen == {"visible": A, "taken": {A}}


def test_no_import_asks_cuda_before_the_device_is_chosen():
    """CUDA reads CUDA_VISIBLE_DEVICES once, when it is first asked for anything."""
    code = (
        "import torch\n"
        "def asked(*_, **__): raise AssertionError('CUDA was asked')\n"
        "for name in ('is_available', 'device_count', 'init', '_lazy_init', 'current_device'):\n"
        "    setattr(torch.cuda, name, asked)\n"
        "from batchopt.request.config import AdapterConfig\n"
        "import batchopt.verify.__main__, batchopt.training.adapters as adapters\n"
        "adapters.settle_imports(AdapterConfig())\n"  # without one; peft is imported later
        "import batchopt.verify.stock_trainer, accelerate\n"
        "import transformers.trainer_seq2seq\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
