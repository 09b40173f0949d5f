"""What only a machine with an NVIDIA GPU can show: `make test-gpu`.

Everything here runs the real command line on the first visible GPU. docs/gpu-checklist.md says
what each test stands for.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import SMALL, records

from batchopt.machine import nvml


def _gpus() -> list[nvml.DeviceInfo]:
    try:
        return nvml.visible_devices(os.environ)
    except nvml.NvmlError:
        return []


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _gpus(), reason="there is no NVIDIA GPU here"),
]

ON_GPU = [word for word in SMALL if not word.startswith("device.kind")] + ["device.kind=cuda"]


def run(module, *words, cwd, cache):
    done = subprocess.run(
        [sys.executable, "-m", module, *ON_GPU, f"cache_dir={cache}", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, cache) -> dict[str, dict]:
    cwd = tmp_path_factory.mktemp("sweep")
    run(
        *("batchopt.train", "-m", "batch=05a,05b,05c", "training.max_steps=40"),
        cwd=cwd,
        cache=cache,
    )
    return records(cwd)


def test_every_figure_of_a_gpu_is_measured(sweep):
    """Fields that some cards or containers lack are printed, not demanded."""
    for name, record in sweep.items():
        assert record["status"] == "completed", record["cause"]
        metrics = record["metrics"]
        assert record["environment"]["device_uuid"] == _gpus()[0].uuid
        assert metrics["memory_source"] in ("nvml_process", "nvml_device_minus_baseline")
        for figure in (
            *("peak_memory_bytes", "mean_memory_bytes", "peak_allocated_bytes"),
            *("peak_reserved_bytes", "fragmentation_bytes", "eval_peak_allocated_bytes", "mfu"),
            *("steps_per_second", "step_time_median_s", "forward_s", "backward_s"),
        ):
            assert metrics[figure] is not None, (name, figure)
        absent = [figure for figure, value in metrics.items() if value is None]
        print(f"{name}: not measured here: {', '.join(absent) or 'nothing'}")


def test_the_driver_counts_what_the_allocator_holds_and_the_context(sweep):
    for record in sweep.values():
        metrics = record["metrics"]
        assert metrics["peak_allocated_bytes"] <= metrics["peak_reserved_bytes"]
        assert metrics["peak_reserved_bytes"] <= metrics["peak_memory_bytes"] + 64 * 2**20
        assert metrics["outside_allocator_bytes"] < 4 * 2**30


def test_the_parts_of_a_step_make_up_the_step(sweep):
    for record in sweep.values():
        metrics = record["metrics"]
        parts = sum(
            metrics[f"{part}_s"] for part in ("data_wait", "forward", "backward", "optimizer")
        )
        assert 0.5 < parts * metrics["steps_per_second"] < 1.05


def test_the_presets_are_the_same_training_in_bf16_too(tmp_path, cache):
    text = run("batchopt.verify", "training.precision=bf16", cwd=tmp_path, cache=cache)
    assert "bf16" in text


def test_a_memory_limit_on_the_gpu_makes_a_recorded_oom(tmp_path, cache):
    large = ["model.vocab_size=3000", "model.d_model=1024", "model.ffn_dim=4096", "model.layers=6"]
    run(
        *("batchopt.train", "-m", "batch=05c", *large, "device.memory_limit_gib=1.5"),
        *("training.max_steps=3", "verify=false"),
        cwd=tmp_path,
        cache=cache,
    )
    (record,) = records(tmp_path).values()
    assert record["status"] == "oom", record["cause"]


def test_the_probe_predicts_on_a_gpu(tmp_path, cache):
    run("batchopt.probe", "--json", str(tmp_path / "probe.json"), cwd=tmp_path, cache=cache)
    figures = json.loads((tmp_path / "probe.json").read_text())
    assert all(row["fits"] for row in figures["probes"])
    assert abs(figures["memory"]["held_out_errors"]["16 x 4"]) < 0.05


def test_a_killed_run_gives_the_gpu_back(tmp_path, cache):
    before = _used()
    run("batchopt.train", "batch=05a", "training.max_steps=2", cwd=tmp_path, cache=cache)
    assert _used() - before < 64 * 2**20


def _used() -> int:
    with nvml.DeviceMonitor(_gpus()[0].uuid) as monitor:
        used = monitor.sample(()).device_used_bytes
    return used or 0


def test_the_doctor_sees_the_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "batchopt.doctor", "--json"],
        cwd=Path(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert _gpus()[0].uuid in done.stdout
