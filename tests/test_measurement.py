"""A run is measured from outside: by phase, in one figure that names its source."""

import json
import os
import time
from pathlib import Path

import pytest
from fake_nvml import GIB, card, card_uuid

from batchopt import measurement, memory
from batchopt.measurement import Measurement
from batchopt.nvml import DeviceMonitor, DeviceNotFound, NvmlError

A = card_uuid(0)
RUN = os.getpid()


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "memory.jsonl").read_text().splitlines()]


def test_a_gpu_run_is_measured_by_its_processes_while_it_trains(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor:
        with Measurement(tmp_path, RUN, monitor, time.monotonic()) as measured:
            fake.set({"gpu0.processes": f"{RUN}:{9 * GIB}", "gpu0.used": 10 * GIB})
            measured.sample()  # loading: does not count
            measured.enter("train")
            for used in (2, 4):
                fake.set({"gpu0.processes": f"{RUN}:{used * GIB}"})
                measured.sample()
            measured.enter("evaluate")
            fake.set({"gpu0.processes": f"{RUN}:{8 * GIB}"})
            measured.sample()
        metrics = measured.metrics(on_device=True)
    assert metrics["memory_source"] == "nvml_process"
    assert metrics["peak_memory_bytes"] == 4 * GIB
    assert 2 * GIB < metrics["mean_memory_bytes"] < 4 * GIB
    assert metrics["baseline_memory_bytes"] == GIB
    assert {row["phase"] for row in rows(tmp_path)} == {"load", "train", "evaluate"}
    assert max(row["memory_bytes"] for row in rows(tmp_path)) == 9 * GIB


def test_where_nvml_knows_no_processes_the_device_above_its_baseline_counts(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with (
        DeviceMonitor(A) as monitor,
        Measurement(tmp_path, RUN, monitor, time.monotonic()) as measured,
    ):
        measured.enter("train")
        fake.set({"gpu0.used": 6 * GIB})
        measured.sample()
        fake.set({"gpu0.used": GIB // 2})  # a neighbour left: never below nothing
        measured.sample()
        metrics = measured.metrics(on_device=True)
    assert metrics["memory_source"] == "nvml_device_minus_baseline"
    assert metrics["peak_memory_bytes"] == 5 * GIB


def test_the_two_sources_are_never_mixed(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with (
        DeviceMonitor(A) as monitor,
        Measurement(tmp_path, RUN, monitor, time.monotonic()) as measured,
    ):
        measured.enter("train")
        for processes in ("", f"{RUN}:5", f"{RUN}:7", ""):
            fake.set({"gpu0.processes": processes, "gpu0.used": 9 * GIB})
            measured.sample()
        metrics = measured.metrics(on_device=True)
    assert (metrics["memory_source"], metrics["peak_memory_bytes"]) == ("nvml_process", 7)
    assert metrics["mean_memory_bytes"] == 6


def test_a_run_that_fell_back_to_the_cpu_is_measured_there(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with (
        DeviceMonitor(A) as monitor,
        Measurement(tmp_path, RUN, monitor, time.monotonic()) as measured,
    ):
        measured.enter("train")
        measured.sample()
        metrics = measured.metrics(on_device=False)
    assert metrics["memory_source"] == memory.SOURCE
    assert metrics["peak_memory_bytes"] >= metrics["mean_memory_bytes"] > 0


def test_a_run_that_never_trained_has_no_figures(tmp_path):
    with Measurement(tmp_path, RUN, None, time.monotonic()) as measured:
        measured.sample()
        metrics = measured.metrics(on_device=False)
    assert metrics["peak_memory_bytes"] is metrics["mean_memory_bytes"] is None
    assert metrics["memory_source"] is None
    assert metrics["baseline_memory_bytes"] > 0


def test_the_first_visible_gpu_is_taken_and_the_cpu_where_there_is_none(fake, monkeypatch):
    fake.set(card(0) | card(1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert measurement.find_device("auto").uuid == card_uuid(1)
    assert measurement.find_device("cpu") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert measurement.find_device("auto") is None
    with pytest.raises(DeviceNotFound):
        measurement.find_device("cuda")


def test_a_gpu_that_is_demanded_and_not_there_is_an_error():
    with pytest.raises(NvmlError):
        measurement.find_device("cuda")
