"""What was begun is finished: nothing trained twice, nothing lost, and the same numbers."""

import json
import os
import shlex
import signal
import sys

import pytest
from support.processes import finish, run_to_end, wait_for
from support.runs import records, resume, start, train, worker_of

from batchopt.record.files import read_jsonl

LONGER = ["training.max_steps=30", "training.eval_steps=2", "model.dropout=0.1"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    cwd = tmp_path_factory.mktemp("undisturbed")
    done = train("batch=05b", *LONGER, "hydra.run.dir=run", cwd=cwd, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd / "run"


def numbers(folder):
    rows = list(read_jsonl(folder / "metrics.jsonl"))
    losses = {row["step"]: row["train_loss"] for row in rows if row["kind"] == "train"}
    scores = {row["step"]: row["eval_loss"] for row in rows if row["kind"] == "evaluation"}
    return losses, scores, list(read_jsonl(folder / "predictions.jsonl"))


def begin(cwd, cache):
    """A run that has written a checkpoint and goes on."""
    run = start("batch=05b", *LONGER, "hydra.run.dir=run", cwd=cwd, cache=cache)
    wait_for(lambda: list(cwd.rglob("batchopt.json")), "a checkpoint", process=run)
    return run


@pytest.mark.parametrize("victim", ["ctrl-c", "sigterm", "worker", "supervisor"])
def test_a_run_goes_on_bit_identically_whoever_died(victim, undisturbed, tmp_path, cache):
    run = begin(tmp_path, cache)
    pid = worker_of(tmp_path)
    if victim == "worker":
        os.kill(pid, signal.SIGKILL)
    else:
        number = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM, "supervisor": signal.SIGKILL}
        os.kill(run.pid, number[victim])
    output, _ = finish(run, 60)
    folder = tmp_path / "run"
    first = records(tmp_path).get("run")
    if victim == "supervisor":
        assert first is None
    else:
        expected = "killed" if victim == "worker" else "interrupted"
        assert first["status"] == expected, output
    words = ["sweep.retry=[killed]"] if victim == "worker" else []
    done = resume(folder, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = records(tmp_path)["run"]
    assert record["status"] == "completed"
    assert len(record["attempts"]) == 2
    assert record["metrics"]["total_time_s"] == pytest.approx(
        sum(attempt["duration_s"] for attempt in record["attempts"])
    )
    assert record["metrics"]["optimizer_steps_done"] == 30
    assert numbers(folder) == numbers(undisturbed)


def test_a_stopped_run_has_saved_the_step_it_was_in(tmp_path, cache):
    run = start(
        *("batch=05b", "training.max_steps=4000", "training.eval_steps=4000"),
        "hydra.run.dir=run",
        cwd=tmp_path,
        cache=cache,
    )
    wait_for(lambda: worker_of(tmp_path), "the run to train", process=run)
    wait_for(
        lambda: '"kind": "train"' in (tmp_path / "run" / "metrics.jsonl").read_text(), "a step"
    )
    os.kill(run.pid, signal.SIGINT)
    finish(run, 60)
    record = records(tmp_path)["run"]
    assert f"checkpoint at step {record['step']}" in record["cause"]
    assert run.returncode == 130


def test_a_sweep_runs_only_what_is_left_and_says_what_is_stale(tmp_path, cache):
    words = ["-m", "batch=05a,05b", "hydra.sweep.dir=sweep", "training.max_steps=2", "verify=false"]
    assert train(*words, cwd=tmp_path, cache=cache).returncode == 0
    folder = tmp_path / "sweep"
    before = records(tmp_path)
    again = train(*words, cwd=tmp_path, cache=cache)
    assert again.returncode == 0
    assert "kept: 0_batch=05a: completed" in again.stdout
    assert records(tmp_path) == before, "nothing was run"

    # A run whose record speaks of other code is stale; one that failed runs again; one is kept.
    path = folder / "0_batch=05a" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code_hash": "other"}))
    again = resume(folder, cwd=tmp_path)
    assert "runs: 0_batch=05a: stale (its code of batchopt differ from now)" in again.stdout
    assert "kept: 1_batch=05b: completed" in again.stdout
    assert (folder / ".stale" / "0_batch=05a.1" / "record.json").exists()
    assert records(folder)["0_batch=05a"]["started_at"] >= before["0_batch=05a"]["started_at"]

    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "oom"}))
    again = resume(folder, cwd=tmp_path)
    assert "kept: 0_batch=05a: oom" in again.stdout
    again = resume(folder, "sweep.retry=[oom]", cwd=tmp_path)
    assert "runs: 0_batch=05a: oom" in again.stdout
    assert records(folder)["0_batch=05a"]["status"] == "completed"


def test_another_sweep_is_not_written_into_the_directory(tmp_path, cache):
    words = ["hydra.sweep.dir=sweep", "training.max_steps=1", "verify=false"]
    assert train("-m", "batch=05a", *words, cwd=tmp_path, cache=cache).returncode == 0
    before = (tmp_path / "sweep" / "sweep.json").read_bytes()
    again = train("-m", "batch=05a,05b", *words, cwd=tmp_path, cache=cache)
    assert again.returncode == 2
    assert "holds another sweep" in again.stderr
    assert (tmp_path / "sweep" / "sweep.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "is no sweep"),
        ([], "multirun is not a directory"),
        (["a", "b"], "one sweep or run at a time"),
    ],
)
def test_a_wrong_request_is_one_line(words, expected, tmp_path):
    done = run_to_end([sys.executable, "-m", "batchopt.resume", *words], cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert expected in line


def test_a_disk_that_is_too_small_is_refused_before_anything_runs(tmp_path, cache):
    done = train(
        *("-m", "batch=05a,05b", "model.d_model=2048", "model.ffn_dim=8192", "model.layers=4"),
        "training.keep_checkpoints=100000",
        cwd=tmp_path,
        cache=cache,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "training.keep_checkpoints" in line
    assert not list(tmp_path.rglob("sweep.json"))
    assert shlex.split(line)
