"""A run is measured from outside: by phase, in one figure that names its source."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_nvml import GIB, card, card_uuid

from batchopt.machine import device, host_memory
from batchopt.machine.nvml import DeviceLost, DeviceMonitor, DeviceNotFound, NvmlError
from batchopt.record.statuses import Phase
from batchopt.run.measurement import FOREIGN_CORES, Measurement, _ForeignCores

A = card_uuid(0)
RUN = os.getpid()


def measure(folder: Path, monitor: DeviceMonitor | None) -> Measurement:
    """Samples once at its start, and then when the test says so."""
    return Measurement(folder, RUN, monitor, interval_s=1e6, started=time.monotonic())


@pytest.fixture
def measured(fake, tmp_path) -> Iterator[Measurement]:
    """Follows this process on a GPU that holds a GiB before the run."""
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor, measure(tmp_path, monitor) as measured:
        yield measured


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "memory.jsonl").read_text().splitlines()]


def test_a_gpu_run_is_measured_by_its_processes_while_it_trains(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor:
        with measure(tmp_path, monitor) as measured:
            fake.set({"gpu0.processes": f"{RUN}:{9 * GIB}", "gpu0.used": 10 * GIB})
            measured.sample()  # loading: does not count
            measured.enter(Phase.train)
            for used in (2, 4):
                fake.set({"gpu0.processes": f"{RUN}:{used * GIB}"})
                measured.sample()
            measured.enter(Phase.evaluate)
            fake.set({"gpu0.processes": f"{RUN}:{8 * GIB}"})
            measured.sample()
        metrics = measured.metrics(on_device=True)
    assert metrics["memory_source"] == "nvml_process"
    assert metrics["peak_memory_bytes"] == 4 * GIB
    assert 2 * GIB < metrics["mean_memory_bytes"] < 4 * GIB
    assert metrics["baseline_memory_bytes"] == GIB
    assert {row["phase"] for row in rows(tmp_path)} == {"load", "train", "evaluate"}
    assert max(row["memory_bytes"] for row in rows(tmp_path)) == 9 * GIB


def test_where_nvml_knows_no_processes_the_device_above_its_baseline_counts(fake, measured):
    measured.enter(Phase.train)
    fake.set({"gpu0.used": 6 * GIB})
    measured.sample()
    fake.set({"gpu0.used": GIB // 2})  # a neighbour left: never below nothing
    measured.sample()
    metrics = measured.metrics(on_device=True)
    assert metrics["memory_source"] == "nvml_device_minus_baseline"
    assert metrics["peak_memory_bytes"] == 5 * GIB


def test_the_two_sources_are_never_mixed(fake, measured):
    measured.enter(Phase.train)
    for processes in ("", f"{RUN}:5", f"{RUN}:7", ""):
        fake.set({"gpu0.processes": processes, "gpu0.used": 9 * GIB})
        measured.sample()
    metrics = measured.metrics(on_device=True)
    assert (metrics["memory_source"], metrics["peak_memory_bytes"]) == ("nvml_process", 7)
    assert metrics["mean_memory_bytes"] == 6


def test_a_run_that_fell_back_to_the_cpu_is_measured_there(fake, measured):
    measured.enter(Phase.train)
    measured.sample()
    metrics = measured.metrics(on_device=False)
    assert metrics["memory_source"] == host_memory.SOURCE
    assert metrics["peak_memory_bytes"] >= metrics["mean_memory_bytes"] > 0


def test_a_run_that_never_trained_has_no_figures(tmp_path):
    with measure(tmp_path, None) as measured:
        measured.sample()
        metrics = measured.metrics(on_device=False)
    assert metrics["peak_memory_bytes"] is metrics["mean_memory_bytes"] is None
    assert metrics["memory_source"] is None
    assert metrics["baseline_memory_bytes"] > 0


def test_the_first_visible_gpu_is_taken_and_the_cpu_where_there_is_none(fake, monkeypatch):
    fake.set(card(0) | card(1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert device.find_device("auto").uuid == card_uuid(1)
    assert device.find_device("cpu") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.find_device("auto") is None
    with pytest.raises(DeviceNotFound):
        device.find_device("cuda")


def test_a_gpu_that_is_demanded_and_not_there_is_an_error():
    with pytest.raises(NvmlError):
        device.find_device("cuda")


def test_a_neighbour_on_the_gpu_makes_the_timing_untrusted(fake, measured):
    neighbour = RUN + 1
    measured.enter(Phase.train)
    fake.set({"gpu0.processes": f"{RUN}:{GIB}"})
    measured.sample()
    assert measured.metrics(on_device=True)["timing_untrusted"] == []
    fake.set({"gpu0.processes": f"{RUN}:{GIB},{neighbour}:{GIB}"})
    for _ in range(4):
        measured.sample()
    (reason,) = measured.metrics(on_device=True)["timing_untrusted"]
    assert f"another process (pid {neighbour})" in reason


def test_a_throttled_gpu_is_named_and_its_power_limit_is_not(fake, measured):
    measured.enter(Phase.train)
    fake.set({"gpu0.processes": f"{RUN}:{GIB}", "gpu0.throttle": 0x4})
    measured.sample()
    measured.sample()
    assert measured.metrics(on_device=True)["timing_untrusted"] == []
    fake.set({"gpu0.throttle": 0x40})
    measured.sample()
    measured.sample()
    (reason,) = measured.metrics(on_device=True)["timing_untrusted"]
    assert "hw_thermal_slowdown" in reason


def test_a_lost_gpu_ends_the_sampling_and_is_kept(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.error": 15})
        with measure(tmp_path, monitor) as measured:
            measured.ready.wait(5)
            measured._thread.join(5)
        assert isinstance(measured.error, DeviceLost)


def test_the_peak_that_the_run_read_itself_counts(tmp_path):
    """Between two samples memory may have been higher."""
    with measure(tmp_path, None) as measured:
        measured.enter(Phase.train)
        measured.sample()
        measured.enter(Phase.evaluate, peak_bytes=10**15)
        metrics = measured.metrics(on_device=False)
    assert metrics["peak_memory_bytes"] == 10**15
    assert metrics["eval_peak_memory_bytes"] is None or metrics["eval_peak_memory_bytes"] < 10**15


def test_a_busy_neighbour_on_the_cpu_is_found_and_named(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        cores = _ForeignCores(run.pid)
        cores.turn(on=True)
        time.sleep(1.5)
        (reason,) = cores.reasons(FOREIGN_CORES)
    finally:
        busy.kill()
        run.kill()
        busy.wait()
        run.wait()
    assert "other processes used" in reason
    assert "pid" in reason


def test_what_happens_while_the_run_evaluates_says_nothing_of_its_training(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        cores = _ForeignCores(run.pid)
        cores.turn(on=True)
        cores.turn(on=False)
        time.sleep(1.2)
        assert cores.reasons(FOREIGN_CORES) == []
    finally:
        run.kill()
        run.wait()
