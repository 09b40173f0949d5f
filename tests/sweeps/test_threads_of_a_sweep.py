"""Beside a busy process a sweep takes the cores that are left, for all of its runs to come."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
from support.runs import records, resume, train

from batchopt.machine import cores
from batchopt.record.files import METRICS_JSONL, read_jsonl

SET = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

pytestmark = pytest.mark.skipif(cores.usable() < 2, reason="with one core nothing is to choose")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """The person has set nothing."""
    for variable in SET:
        monkeypatch.delenv(variable, raising=False)


@contextmanager
def neighbours(count):
    """Processes of other sessions that never wait."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for neighbour in busy:
            neighbour.kill()
            neighbour.wait()


def test_a_sweep_beside_a_busy_process_and_its_resumption(tmp_path, cache, monkeypatch):
    words = ["-m", "batch=05b", "seed=1,2", "training.max_steps=2", "verify=false"]
    with neighbours(cores.usable() - 1):
        done = train(*words, cwd=tmp_path, cache=cache)
    assert done.returncode == 0, done.stderr
    (said,) = re.findall(r"^threads: .*", done.stdout, re.M)
    assert "1 instead of" in said
    (sweep,) = (tmp_path / "multirun").glob("*/*")
    plan = json.loads((sweep / "sweep.json").read_text())
    assert plan["threads"]["count"] == 1
    assert plan["threads"]["reason"] in said
    assert [one["environment"]["threads"] for one in records(sweep).values()] == [1, 1]

    (sweep / "1_batch=05b,seed=2" / "record.json").unlink()
    done = resume(sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "threads: 1, as when it began" in done.stdout
    assert [one["environment"]["threads"] for one in records(sweep).values()] == [1, 1]

    many = str(os.cpu_count())
    monkeypatch.setenv("OMP_NUM_THREADS", many)
    done = resume(sweep, cwd=tmp_path)
    assert f"threads: {many}, as OMP_NUM_THREADS says" in done.stdout


def test_threads_that_a_person_set_stay_and_sleep_beside_others_to_the_same_bits(
    tmp_path, cache, monkeypatch
):
    threads = cores.usable()
    words = ["batch=05b", f"device.threads={threads}", "training.max_steps=3"]
    with neighbours(threads):
        done = train(*words, "hydra.run.dir=beside", cwd=tmp_path, cache=cache)
    assert f"threads: {threads}, as device.threads says" in done.stdout, done.stderr
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    done = train(*words, "hydra.run.dir=passive", cwd=tmp_path, cache=cache)
    beside, passive = (records(tmp_path)[name] for name in ("beside", "passive"))
    assert {beside["status"], passive["status"]} == {"completed"}, done.stderr
    assert beside["environment"]["threads"] == passive["environment"]["threads"] == threads
    assert beside["metrics"]["passive_wait_s"] > 0
    assert passive["metrics"]["passive_wait_s"] == 0, "the person has chosen how they wait"
    bits = [
        [
            (row["train_loss"], row["grad_norm"])
            for row in read_jsonl(tmp_path / name / METRICS_JSONL)
            if row["kind"] == "train"
        ]
        for name in ("beside", "passive")
    ]
    assert len(bits[0]) == 3
    assert bits[0] == bits[1]
