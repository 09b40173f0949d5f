"""What a run does not use costs it nothing: no command imports peft, scipy or datasets for it."""

import os
import subprocess
import sys

import pytest
from support.runs import SMALL, records

TRIP = "open({path!r}, 'a').write(__name__ + '\\n')\nraise RuntimeError('imported: ' + __name__)\n"


@pytest.fixture
def tripwires(tmp_path):
    """Packages that note who imports them, found before any others."""
    for name in ("peft", "bitsandbytes"):
        package = tmp_path / "packages" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text(TRIP.format(path=str(tmp_path / "imported")))
    before = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'packages'}:{before}"}


def call(*words, cwd, env):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_transformers_would_import_them(tripwires, tmp_path):
    done = call("-c", "import transformers.trainer", cwd=tmp_path, env=tripwires)
    assert "imported: peft" in done.stderr


def test_a_training_imports_no_data_sets_and_a_file_of_them_later_does(tmp_path):
    code = """
import sys
from batchopt.request.config import AdapterConfig
from batchopt.training import adapters
adapters.settle_imports(AdapterConfig())
import batchopt.training.trainer, batchopt.verify.stock_trainer
import transformers.models.bart.modeling_bart
print(*{"datasets", "pandas", "scipy"} & set(sys.modules))
import datasets, scipy
print(datasets.Dataset.from_list([{"a": 1}])[0])
"""
    done = call("-c", code, cwd=tmp_path, env=os.environ)
    assert done.stdout.splitlines() == ["", "{'a': 1}"], done.stderr


@pytest.mark.parametrize("command", ["train", "probe", "verify"])
def test_no_command_imports_them_without_an_adapter(command, tripwires, tmp_path, cache):
    more = [] if command == "train" else ["batch.effective_batch_size=8"]
    words = ("-m", f"batchopt.{command}", *SMALL, f"cache_dir={cache}", *more)
    done = call(*words, cwd=tmp_path, env=tripwires)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "imported").exists()
    if command == "train":
        (record,) = records(tmp_path).values()
        assert record["model"]["adapter"] == "none"
        assert record["model"]["trainable_parameters"] == record["model"]["parameters"]
        assert record["metrics"]["frozen_weights_bytes"] == 0
        assert record["metrics"]["trained_weights_bytes"] == 4 * record["model"]["parameters"]
        # AdamW keeps two moments of each weight, and a count of steps.
        moments = 2 * record["metrics"]["trained_weights_bytes"]
        assert moments < record["metrics"]["optimizer_bytes"] < 1.1 * moments
