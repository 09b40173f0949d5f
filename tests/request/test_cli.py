"""What answers without training: help, the config, from a checkout and from a wheel."""

import os
import subprocess
import sys

import pytest
from support import TOP


def run(*words, cwd, env=None):
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )


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


def test_an_installed_wheel_finds_its_conf_and_its_analysis(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(tmp_path), str(TOP)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    env = os.environ | {"PYTHONPATH": str(site)}
    where = run("batchopt.train", "--info", "searchpath", cwd=tmp_path, env=env)
    assert f"{site}/batchopt/conf" in where.stdout
    done = run("batchopt.train", "--cfg", "job", "batch=05c", cwd=tmp_path, env=env)
    assert "per_device_train_batch_size: 64" in done.stdout, done.stderr
    assert "sweep=" in run("analysis", "--help", cwd=tmp_path, env=env).stdout
