"""What answers without training: help and the config."""

import sys

import pytest
from support.processes import run_to_end


def run(*words, cwd):
    return run_to_end([sys.executable, "-m", *words], cwd=cwd)


def test_help_lists_groups_choices_and_keys(tmp_path):
    done = run("batchopt.train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("05a, 05b, 05c", "files, hub, sample", "training.gradient_checkpointing=false"):
        assert word in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["batch=05a", "+batch=05a"])
def test_cfg_job_shows_the_config_and_writes_nothing(form, tmp_path):
    done = run("batchopt.train", "--cfg", "job", form, cwd=tmp_path)
    assert done.returncode == 0
    assert "per_device_train_batch_size: 8" in done.stdout
    assert not list(tmp_path.iterdir())
