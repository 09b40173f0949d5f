"""What a run leaves behind, whatever happens to its process."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from support.fake_nvml import card
from support.processes import finish, run_to_end, wait_for
from support.runs import records, start, train, worker_of

from batchopt.record.files import read_jsonl


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, cache):
    """The person's sweep, whole, on a very small sample."""
    cwd = tmp_path_factory.mktemp("sweep")
    done = train("-m", "batch=05a,05b,05c", cwd=cwd, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (path.parent for path in cwd.rglob("sweep.json"))
    return folder, done


def test_a_sweep_leaves_a_completed_record_for_every_preset(sweep):
    folder, done = sweep
    assert {name: record["status"] for name, record in records(folder).items()} == {
        "0_batch=05a": "completed",
        "1_batch=05b": "completed",
        "2_batch=05c": "completed",
    }
    planned = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert [job["run_dir"] for job in planned] == ["0_batch=05a", "1_batch=05b", "2_batch=05c"]
    assert "8 x 8" in done.stdout
    assert "analysis" in done.stdout


def test_every_metric_that_a_cpu_can_have_is_there(sweep):
    not_on_cpu = {
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "num_alloc_retries",
        "fragmentation_bytes",
        "eval_peak_allocated_bytes",
        "outside_allocator_bytes",
        "num_ooms",
        "energy_j",
        "energy_source",
        "mean_power_w",
        "mean_utilization",
        "peak_temperature_c",
    }
    for name, record in records(sweep[0]).items():
        unmeasured = {name for name, value in record["metrics"].items() if value is None}
        # A step of one micro-batch says nothing about its noise.
        assert unmeasured == not_on_cpu | ({"gradient_noise_scale"} if "05c" in name else set())
        assert record["metrics"]["memory_source"] == "process_anonymous"
        assert record["environment"]["device_name"]
        assert record["plan"]["effective_batch_size"] == 64


def test_the_presets_are_the_same_training(sweep):
    """Same examples and gradient in each step, the smaller last one of an epoch included."""
    losses = []
    for run in records(sweep[0]):
        rows = list(read_jsonl(sweep[0] / run / "metrics.jsonl"))
        losses.append([row["train_loss"] for row in rows if row["kind"] == "train"])
    assert len(losses[0]) == 4
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


def test_memory_is_measured_by_phase(sweep):
    for run, record in records(sweep[0]).items():
        rows = list(read_jsonl(sweep[0] / run / "memory.jsonl"))
        assert {row["phase"] for row in rows} >= {"load", "train", "evaluate"}
        metrics = record["metrics"]
        assert metrics["peak_memory_bytes"] >= metrics["mean_memory_bytes"] > 50 * 2**20
        assert metrics["baseline_memory_bytes"] > 50 * 2**20


def test_predictions_stand_in_the_order_of_the_data(sweep):
    for run in records(sweep[0]):
        rows = list(read_jsonl(sweep[0] / run / "predictions.jsonl"))
        assert len(rows) == 8
        assert all(row.keys() >= {"id", "references", "prediction", "rougeL_f1"} for row in rows)
    ids = [
        [row["id"] for row in read_jsonl(sweep[0] / run / "predictions.jsonl")]
        for run in records(sweep[0])
    ]
    assert ids[0] == ids[1] == ids[2]


def test_no_file_is_half_written_and_nothing_is_left_over(sweep):
    names = {path.name for path in sweep[0].rglob("*")}
    assert not {"running.json", "stacks.txt"} & names
    assert not [name for name in names if name.startswith(".") and name != ".hydra"]


@pytest.mark.parametrize("form", ["batch=05a", "+batch=05a"])
def test_a_single_run_takes_both_forms(form, tmp_path, cache):
    done = train(form, "training.max_steps=1", cwd=tmp_path, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path / "outputs" / "runs").values()
    assert record["preset"] == "05a"
    assert record["plan"]["per_device_train_batch_size"] == 8


def test_a_killed_run_is_recorded_and_the_others_go_on(tmp_path, cache):
    sweep = start("-m", "batch=05a,05b", "training.max_steps=400", cwd=tmp_path, cache=cache)
    pid = wait_for(lambda: worker_of(tmp_path), "the first run to train", process=sweep)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: records(tmp_path), "the record of the killed run")
    second = wait_for(
        lambda: (other := worker_of(tmp_path)) and other != pid and other, "the second run"
    )
    wait_for(lambda: len(list(tmp_path.rglob("metrics.jsonl"))) == 2, "the second run to train")
    os.kill(second, signal.SIGKILL)
    output, _ = finish(sweep, 60)
    statuses = {name: record["status"] for name, record in records(tmp_path).items()}
    assert statuses == {"0_batch=05a": "killed", "1_batch=05b": "killed"}, output
    record = records(tmp_path)["0_batch=05a"]
    assert "SIGKILL" in record["cause"]
    assert record["metrics"]["peak_memory_bytes"] > 0
    assert sweep.returncode == 0, "a kill is a result, as DESIGN says"


def test_ctrl_c_records_the_run_and_leaves_no_process(tmp_path, cache):
    run = start("batch=05c", "training.max_steps=400", cwd=tmp_path, cache=cache)
    pid = wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    os.kill(run.pid, signal.SIGINT)
    output, _ = finish(run, 60)
    (record,) = records(tmp_path).values()
    assert record["status"] == "interrupted", output
    assert run.returncode == 130
    assert not Path(f"/proc/{pid}").exists()


def test_no_worker_outlives_its_supervisor(tmp_path, cache):
    run = start("batch=05c", "training.max_steps=400", cwd=tmp_path, cache=cache)
    pid = wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    os.kill(run.pid, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the worker to end", 20)
    run.communicate()
    assert list(tmp_path.rglob("running.json")), "so that the analysis can tell what happened"


def test_a_bug_is_recorded_with_its_traceback_and_the_sweep_exits_1(tmp_path, cache):
    done = train("-m", "batch=05a", "training.learning_rate=1e30,2e-3", cwd=tmp_path, cache=cache)
    assert done.returncode == 1, done.stderr
    failed = [record for name, record in records(tmp_path).items() if "1e" in name]
    others = [record for name, record in records(tmp_path).items() if "1e" not in name]
    assert [record["status"] for record in failed + others] == ["failed", "completed"]
    assert "loss is" in failed[0]["cause"]
    assert "Traceback" in failed[0]["traceback"]


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_a_gpu_that_torch_cannot_use_is_said_on_the_first_screen(tmp_path, cache, library):
    """NVML sees a card, and torch is a build for the CPU."""
    library.reset()
    library.set(card(0))
    done = train(
        *("batch=05a", "device.kind=auto", "training.max_steps=1", "hydra.run.dir=run"),
        cwd=tmp_path,
        cache=cache,
        env=os.environ | library.environ,
    )
    (record,) = records(tmp_path).values()
    assert record["status"] == "completed", done.stdout + done.stderr
    plan, run = done.stdout.split("\nrun: ", 1)
    assert plan.count("build without CUDA") == 1
    assert "batchopt.doctor" in plan
    assert "\nthreads: " in plan, "as of any run on the CPU"
    assert (run + done.stderr).count("a GPU is there, and torch") == 1


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA")
def test_a_gpu_that_is_demanded_and_torch_cannot_use_is_refused_before_anything(
    tmp_path, cache, library
):
    library.reset()
    library.set(card(0))
    done = train(
        *("-m", "batch=05a,05b", "device.kind=cuda"),
        cwd=tmp_path,
        cache=cache,
        env=os.environ | library.environ,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert "device.kind is cuda, and torch" in line
    assert "batchopt.doctor" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["batch=05d"], "05a, 05b, 05c"),
        (["batch=05a", "--frobnicate"], "--frobnicate"),
        (["batch=05a", "device.kind=cuda"], "device.kind=auto"),
        (["-m", "batch=05a,05d"], "05a, 05b, 05c"),
        (["batch=05a", "batch.per_device_train_batch_size=7"], "8 x 8"),
        (["data=files", "data.train_file=/nowhere/train.csv"], "/nowhere/train.csv"),
        (["model=pretrained", "model.name_or_path=/nowhere/model"], "/nowhere/model"),
    ],
)
def test_a_wrong_request_is_one_line_exit_2_and_nothing_written(words, expected, tmp_path):
    done = run_to_end(
        [sys.executable, "-m", "batchopt.train", *words, f"cache_dir={tmp_path}/cache"],
        cwd=tmp_path,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("batchopt: ")
    assert expected in line
    assert not list(tmp_path.rglob("record.json")) + list(tmp_path.rglob("sweep.json"))
