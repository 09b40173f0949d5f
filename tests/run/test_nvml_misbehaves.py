"""The record of a run beside an NVML that hangs, dies, hides processes or loses the card.

Through the real command line and the real supervisor. The training runs on the CPU and says that
it ran on the GPU, so that the record has what NVML said.
"""

import os
import signal
from pathlib import Path

import pytest
from support.fake_nvml import GIB, card
from support.processes import finish, processes_of, wait_for
from support.runs import records, start, worker_of

BY_NAME = Path(__file__).parents[1] / "support" / "gpu_by_name"
NEVER_READ = {"hang.nvmlDeviceGetUtilizationRates": 1}
"""The device can be opened, and the first sample hangs."""

LOST, UNKNOWN = 15, 999

pytestmark = pytest.mark.slow


@pytest.fixture
def training(library, tmp_path, cache):
    """Starts a run beside a card; NVML is scripted by the test."""
    started = []
    library.reset()
    library.set(card(0, used=GIB))
    path = os.pathsep.join([str(BY_NAME), os.environ.get("PYTHONPATH", "")])
    env = os.environ | library.environ | {"PYTHONPATH": path}

    def begin(*words):
        words = ("batch=05c", "device.kind=auto", "device.wait_for_free=false", *words)
        started.append(start(*words, cwd=tmp_path, cache=cache, env=env))
        return started[-1]

    yield begin
    library.reset()  # what still hangs returns
    for process in started:
        process.kill()
        process.communicate()


def record_of(run, folder):
    output, _ = finish(run, 120)
    (record,) = records(folder).values()
    return record, output


def test_a_stalled_run_is_stopped_and_recorded_while_nvml_hangs(training, library, tmp_path):
    """The training is silent for longer than the limit while it imports torch."""
    library.set(NEVER_READ)
    run = training("run.stall_min=0.002", "run.grace_s=1")
    record, output = record_of(run, tmp_path)
    assert library.hangs
    assert record["status"] == "timeout", output
    assert "no progress for run.stall_min=0.002 minutes" in record["cause"]
    assert not processes_of(tmp_path, "training.worker")


def test_ctrl_c_ends_a_training_in_order_while_nvml_hangs(training, library, tmp_path):
    library.set(NEVER_READ)
    run = training("training.max_steps=4000")
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    os.kill(run.pid, signal.SIGINT)
    record, output = record_of(run, tmp_path)
    assert run.returncode == 130, output
    assert record["status"] == "interrupted"
    assert "checkpoint at step" in record["cause"], "it was asked, and not killed"
    assert record["metrics"]["memory_source"] is record["metrics"]["energy_j"] is None


def test_a_training_goes_on_while_nvml_hangs_and_its_record_does_not_guess(
    training, library, tmp_path
):
    run = training("training.max_steps=16")
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    library.set({"hang": 1})
    wait_for(lambda: library.hangs, "NVML to hang", process=run)
    record, output = record_of(run, tmp_path)
    assert (run.returncode, record["status"]) == (0, "completed"), output
    metrics = record["metrics"]
    for figure in (
        *("peak_memory_bytes", "mean_memory_bytes", "memory_source", "energy_j"),
        *("mean_power_w", "mean_utilization", "peak_temperature_c"),
    ):
        assert metrics[figure] is None, figure
    assert metrics["baseline_memory_bytes"] == GIB
    (reason,) = [line for line in metrics["timing_untrusted"] if "NVML" in line]
    assert "NVML gave no reading for" in reason


def test_a_driver_that_dies_takes_the_figures_and_not_the_training(training, library, tmp_path):
    run = training("training.max_steps=16")
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    library.set({"error": UNKNOWN})
    record, output = record_of(run, tmp_path)
    assert (run.returncode, record["status"]) == (0, "completed"), output
    assert record["metrics"]["peak_memory_bytes"] is record["metrics"]["energy_j"] is None
    assert any("NVML gave no reading" in line for line in record["metrics"]["timing_untrusted"])


def test_a_card_that_is_lost_ends_the_run_with_its_reason(training, library, tmp_path):
    run = training("training.max_steps=4000")
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    library.set({"gpu0.error": LOST})
    record, output = record_of(run, tmp_path)
    assert (run.returncode, record["status"]) == (1, "failed"), output
    assert "the GPU was lost" in record["cause"]
    assert "dmesg" in record["cause"]
    assert "checkpoint at step" in record["cause"]


def test_a_hidden_run_is_not_given_its_neighbours_memory(training, library, tmp_path):
    """In a container: NVML lists the run by another number, and then somebody else."""
    run = training("training.max_steps=16")
    wait_for(lambda: processes_of(tmp_path, "training.worker"), "the worker", process=run)
    library.set({"gpu0.processes": f"700001:{5 * GIB}", "gpu0.used": 6 * GIB})
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    both = f"700001:{5 * GIB},700002:{20 * GIB}"
    library.set({"gpu0.processes": both, "gpu0.used": 26 * GIB})
    record, output = record_of(run, tmp_path)
    assert record["status"] == "completed", output
    metrics = record["metrics"]
    assert (metrics["memory_source"], metrics["peak_memory_bytes"]) == ("nvml_newcomer", 5 * GIB)
    assert any("another process (pid 700002)" in line for line in metrics["timing_untrusted"])
    assert not any("700001" in line for line in metrics["timing_untrusted"])


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetUtilizationRates"])
def test_ctrl_c_is_answered_where_the_driver_hangs_before_the_run(
    training, library, tmp_path, function
):
    """While the GPUs are listed, and while somebody looks whether the card is free."""
    library.set({f"hang.{function}": 1})
    run = training("device.wait_for_free=true")
    if function == "nvmlInitWithFlags":
        wait_for(lambda: library.hangs, "NVML to hang", process=run)
        os.kill(run.pid, signal.SIGINT)
        output, _ = finish(run, 60)
        assert run.returncode == 130, output
    else:
        wait_for(lambda: list(tmp_path.rglob("running.json")), "the run to wait", process=run)
        wait_for(lambda: library.hangs, "NVML to hang", process=run)
        os.kill(run.pid, signal.SIGINT)
        record, output = record_of(run, tmp_path)
        assert record["status"] == "interrupted", output
    assert not processes_of(tmp_path, "training.worker")
