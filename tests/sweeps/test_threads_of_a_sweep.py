"""Beside a busy process a sweep takes the cores that are left, for all of its runs to come."""

import json
import os
import re
import subprocess
import sys

import pytest
from support.runs import records, resume, train

from batchopt.machine import cores

SET = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.skipif(cores.usable() < 2, reason="with one core there is nothing to choose")
def test_a_sweep_beside_a_busy_process_and_its_resumption(tmp_path, cache, monkeypatch):
    for variable in SET:
        monkeypatch.delenv(variable, raising=False)
    words = ["-m", "batch=05b", "seed=1,2", "training.max_steps=2", "verify=false"]
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(cores.usable() - 1)
    ]
    try:
        done = train(*words, cwd=tmp_path, cache=cache)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert done.returncode == 0, done.stderr
    (said,) = re.findall(r"^threads: .*", done.stdout, re.M)
    assert "1 instead of" in said
    (sweep,) = (tmp_path / "multirun").glob("*/*")
    plan = json.loads((sweep / "sweep.json").read_text())
    assert plan["threads"]["count"] == 1
    assert plan["threads"]["reason"] in said
    assert [one["environment"]["threads"] for one in records(sweep).values()] == [1, 1]

    done = resume(sweep, "sweep.retry=[completed]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "threads: 1, as when it began" in done.stdout
    assert [one["environment"]["threads"] for one in records(sweep).values()][:2] == [1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    done = resume(sweep, cwd=tmp_path)
    assert f"threads: {os.cpu_count()}, as OMP_NUM_THREADS says" in done.stdout
