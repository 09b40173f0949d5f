"""Commands that start as forks (`support.warm`) do what commands do that start as a person's."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from support import TOP, warm
from support.processes import begin, finish, run_to_end
from support.runs import SMALL, records, train

from batchopt.record.documents import PlannedRun, SweepPlan
from batchopt.record.files import write_json


def of_the_run(cwd):
    """What a run found out that does not depend on how fast it was and how much memory it took."""
    (record,) = records(cwd).values()
    metrics = {
        name: value
        for name, value in record["metrics"].items()
        if not any(part in name for part in ("time", "_s", "per_", "bytes", "mfu", "rate", "cpu"))
    }
    rest = {key: record[key] for key in ("status", "cause", "plan", "preset", "config_hash")}
    return rest | {"metrics": metrics, "attempts": len(record["attempts"])}


def test_a_run_is_the_same_run(tmp_path, cache):
    words = ("batch=05b", "training.max_steps=2", "hydra.run.dir=run", "model.dropout=0.1")
    for name in ("fork", "real"):
        (tmp_path / name).mkdir()
    fork = train(*words, cwd=tmp_path / "fork", cache=cache)
    real = subprocess.run(
        [sys.executable, "-m", "batchopt.train", *SMALL, f"cache_dir={cache}", *words],
        cwd=tmp_path / "real",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (fork.returncode, real.returncode) == (0, 0), fork.stderr + real.stderr
    assert of_the_run(tmp_path / "fork") == of_the_run(tmp_path / "real")
    files = [
        sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*"))
        for name in ("fork", "real")
    ]
    assert files[0] == files[1]


def test_it_is_a_fork(tmp_path, monkeypatch):
    """Else every test that waits for a command pays for its imports again."""
    import transformers.trainer  # noqa: F401 - it and torch set variables

    words = [sys.executable, "-m", "batchopt.train", "batch=05d"]
    assert warm.fits(words, os.environ)
    assert not warm.fits(words, os.environ | {"LD_PRELOAD": "/elsewhere.so"})
    assert not warm.fits(words, os.environ | {"PYTHONPATH": str(TOP / "tests")})
    monkeypatch.setattr(subprocess, "Popen", None)
    done = run_to_end(words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("batchopt: batch=05d: no such choice")


def test_the_environment_is_that_of_the_call(tmp_path):
    words = [sys.executable, "-m", "batchopt.train", "data=files", "data.train_file=~/none.csv"]
    done = run_to_end(words, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path / "home")})
    assert f"{tmp_path}/home/none.csv" in done.stderr


def test_a_command_that_does_not_end_is_killed_and_the_next_one_runs(tmp_path):
    plan = SweepPlan(
        command="python -m batchopt.train",
        jobs=(PlannedRun(number=0, overrides=(), run_dir="0", preset="05a"),),
        pid=os.getpid(),
        hostname=socket.gethostname(),
        launched_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    write_json(tmp_path / "sweep.json", asdict(plan))
    words = [sys.executable, "-m", "batchopt.status", str(tmp_path)]
    command = warm.Command([*words, "watch=true"], tmp_path, os.environ)
    with pytest.raises(subprocess.TimeoutExpired):
        command.communicate(2.0)
    command.kill()
    _, errors = command.communicate(60)
    assert command.returncode == -signal.SIGKILL
    assert errors == ""
    done = run_to_end(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "05a" in done.stdout


def test_what_finds_modules_first_is_run_first_and_the_command_line_is_its_own(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "own = pathlib.Path('/proc/self/cmdline').read_bytes().rstrip(b'\\0').split(b'\\0')\n"
        "assert own == [os.fsencode(word) for word in sys.orig_argv]\n"
        "print(os.getsid(0) == os.getpid(), sys.orig_argv[1:], sys.path[1])\n"
    )
    words = [sys.executable, "-m", "batchopt.train", "batch=05d"]
    command = begin(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    said, refused = finish(command)[0].splitlines()
    assert said == f"True {words[1:]} {tmp_path}"
    assert refused.startswith("batchopt: batch=05d")
    assert command.poll() == command.returncode == 2
