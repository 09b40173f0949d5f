"""A run is measured from outside: by phase, in one figure that names its source."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.fake_nvml import GIB, card, card_uuid
from support.processes import wait_for

from batchopt.machine import device, host_memory
from batchopt.machine.cores import Usage
from batchopt.machine.nvml import DeviceLost, DeviceMonitor, DeviceNotFound, NvmlError
from batchopt.machine.processes import Family, descendants
from batchopt.record.statuses import Phase
from batchopt.run.measurement import FOREIGN_CORES, Measurement, _ForeignCores

A = card_uuid(0)
RUN = os.getpid()


class Following(Measurement):
    """Has sampled once when the test goes on, and then samples when the test says so."""

    def __enter__(self) -> Measurement:
        super().__enter__()
        assert self.ready.wait(60)
        return self


def measure(folder: Path, monitor: DeviceMonitor | None) -> Measurement:
    return Following(folder, RUN, monitor, interval_s=1e6, started=time.monotonic())


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


def test_a_reading_of_the_evaluation_is_none_of_the_training_though_the_news_is_late(
    fake, measured
):
    """The run has gone on to evaluate; the supervisor reads of it after another sample."""
    measured.enter(Phase.train)
    fake.set({"gpu0.processes": f"{RUN}:{4 * GIB}", "gpu0.used": 5 * GIB})
    measured.sample()
    moved_on = time.monotonic()
    fake.set({"gpu0.processes": f"{RUN}:{8 * GIB}", "gpu0.used": 9 * GIB})
    measured.sample()
    measured.enter(Phase.evaluate, began_at=moved_on)
    assert measured.metrics(on_device=True)["peak_memory_bytes"] == 4 * GIB
    assert measured.metrics(on_device=True)["mean_memory_bytes"] == 4 * GIB


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


def test_a_driver_that_does_not_work_is_said_once_and_no_driver_is_not(fake, caplog):
    device._warn.cache_clear()
    fake.set({"driver": None})
    assert device.find_device("auto") is None
    assert caplog.messages == []
    fake.set({"driver": "580.65.06", "error.nvmlInitWithFlags": 18})  # updated, not rebooted
    assert [device.find_device("auto") for _ in range(2)] == [None, None]
    (message,) = caplog.messages
    assert message.startswith("no GPU is used, and runs train on the CPU: ")
    assert "reboot" in message


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


def test_a_busy_host_makes_the_timing_of_a_gpu_untrusted_too(fake, measured, monkeypatch):
    """A GPU waits for what launches its kernels. Half of the cores are left for that."""
    cores = psutil.cpu_count()
    used = {"share": 0.0}
    times = iter(range(0, 1000, 10))

    def read(_):
        wall_s = float(next(times))
        busy_s = used["share"] * cores * wall_s
        return Usage(wall_s=wall_s, busy_s=busy_s, own_s=0.0, foreign_s={})

    monkeypatch.setattr(_ForeignCores, "_read", read)
    reasons = {}
    for used["share"] in (0.05, 0.3, 0.8):
        measured._foreign_cores = _ForeignCores(RUN)
        measured.enter(Phase.train)
        measured.enter(Phase.evaluate)
        reasons[used["share"]] = [
            len(measured.metrics(on_device=on_device)["timing_untrusted"])
            for on_device in (True, False)
        ]
    assert reasons == {0.05: [0, 0], 0.3: [0, 1], 0.8: [1, 1]}


def test_a_neighbour_that_came_is_taken_off_the_memory_of_the_device(fake, measured):
    """NVML lists the run without its memory, and a neighbour that came after it."""
    measured.enter(Phase.train)
    fake.set({"gpu0.processes": f"{RUN}:na", "gpu0.used": 4 * GIB})
    measured.sample()
    fake.set({"gpu0.processes": f"{RUN}:na,70:{8 * GIB}", "gpu0.used": 12 * GIB})
    measured.sample()
    fake.set({"gpu0.processes": f"{RUN}:na,70:na", "gpu0.used": 30 * GIB})
    measured.sample()  # nobody knows how much of it is the neighbour's
    metrics = measured.metrics(on_device=True)
    assert metrics["memory_source"] == "nvml_device_minus_baseline"
    assert metrics["peak_memory_bytes"] == metrics["mean_memory_bytes"] == 3 * GIB


def test_a_neighbour_whom_nvml_does_not_list_is_told_by_torchs_own_count(fake, measured):
    measured.enter(Phase.train)
    fake.set({"gpu0.used": 12 * GIB})
    measured.sample()
    metrics = measured.metrics(on_device=True, reserved_bytes=10 * GIB)
    assert (metrics["peak_memory_bytes"], metrics["timing_untrusted"]) == (11 * GIB, [])
    metrics = measured.metrics(on_device=True, reserved_bytes=2 * GIB)
    assert metrics["peak_memory_bytes"] is metrics["memory_source"] is None
    assert "9.0 GiB more than torch's allocator" in metrics["timing_untrusted"][0]


def test_a_newcomer_with_less_than_the_run_has_is_not_the_run(fake, measured):
    measured.enter(Phase.train)
    fake.set({"gpu0.processes": f"70:{GIB}", "gpu0.used": 5 * GIB})
    measured.sample()
    metrics = measured.metrics(on_device=True, reserved_bytes=GIB // 2)
    assert (metrics["memory_source"], metrics["peak_memory_bytes"]) == ("nvml_newcomer", GIB)
    metrics = measured.metrics(on_device=True, reserved_bytes=3 * GIB)
    assert metrics["memory_source"] == "nvml_device_minus_baseline"


def test_no_phase_and_no_end_waits_for_a_driver_that_hangs(fake, tmp_path):
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor:
        measured = Measurement(tmp_path, RUN, monitor, interval_s=1e6, started=time.monotonic())
        fake.set({"hang": 1})

        def follow():
            with measured:
                wait_for(lambda: fake.hangs, "NVML to hang")
                measured.enter(Phase.train)
                measured.enter(Phase.evaluate)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        follower.join(timeout=30)
        waits = follower.is_alive()
        fake.set({"hang": None})
        measured._thread.join()
    assert not waits
    assert not any(measured.phases[phase].above_baseline.count for phase in Phase)


@pytest.mark.parametrize("fault", [{"gpu0.error": 999}, {"gpu0.used": None}])
def test_what_nobody_watched_is_not_measured(fake, measured, fault):
    measured.enter(Phase.train)
    measured.sample()
    fake.set(fault)
    for _ in range(3):
        measured.sample()
    measured.enter(Phase.evaluate)
    metrics = measured.metrics(on_device=True)
    assert metrics["peak_memory_bytes"] is metrics["mean_power_w"] is None
    assert "nobody knows who else used the device" in metrics["timing_untrusted"][0]


def test_a_reading_that_only_fails_once_costs_nothing(fake, measured):
    measured.phases[Phase.train].spent_s = 3600.0  # an hour of it went well
    measured.enter(Phase.train)
    fake.set({"gpu0.used": 2 * GIB})
    measured.sample()
    fake.set({"gpu0.error": 999})
    measured.sample()
    fake.set({"gpu0.error": None})
    measured.sample()
    measured.enter(Phase.evaluate)
    metrics = measured.metrics(on_device=True)
    assert (metrics["peak_memory_bytes"], metrics["timing_untrusted"]) == (GIB, [])


def test_idle_processes_of_the_machine_cost_a_sample_nothing(fake, measured):
    """Counted in files opened: psutil opened several for each process, at each sample."""
    script = "(n=0; while [ $n -lt 500 ]; do sleep 600 & n=$((n+1)); done; echo; wait) &"
    idle = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    opened = []
    here = threading.get_ident()
    counting = True

    def hook(event, _):
        if counting and event == "open" and threading.get_ident() == here:
            opened.append(event)

    sys.addaudithook(hook)
    try:
        idle.stdout.readline()
        opened.clear()
        for _ in range(20):
            measured.sample()
    finally:
        counting = False
        os.killpg(idle.pid, signal.SIGKILL)
        idle.communicate()
    assert len(opened) < 20 * 10, len(opened)


def test_a_child_of_any_thread_of_any_child_is_found_and_not_looked_for_at_each_sample():
    code = (
        "import subprocess, sys, threading, time\n"
        "def child(): subprocess.Popen(['sleep', '60']); time.sleep(60)\n"
        "threading.Thread(target=child).start()\n"
    )
    outer = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", code])
    now = 0.0
    family = Family(outer.pid, clock=lambda: now)
    try:
        wait_for(lambda: len(descendants(outer.pid)) == 2, "a child and its own")
        expected = {outer.pid, *descendants(outer.pid)}
        assert set(family.pids()) == expected
    finally:
        for pid in [*descendants(outer.pid), outer.pid]:
            os.kill(pid, signal.SIGKILL)
        outer.wait()
    now = 0.9
    assert set(family.pids()) == expected
    now = 1.0
    assert set(family.pids()) == expected, "those of a run that has ended are kept"
    assert descendants(outer.pid) is None


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
