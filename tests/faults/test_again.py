"""A sweep or a run that is started again does what it said it would, and no more."""

import json
import shutil

import pytest
from support.runs import records, resume, train

pytestmark = pytest.mark.faults


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_only_what_is_asked_for_is_run(tmp_path, cache):
    words = ("-m", "batch=05b", "seed=1,2,3", "training.max_steps=1", "hydra.sweep.dir=sweep")
    assert train(*words, cwd=tmp_path, cache=cache).returncode == 0
    one, two, three = sorted((tmp_path / "sweep").glob("[0-9]*"))
    change(one / "record.json", status="oom")
    change(two / "record.json", status="failed", code_hash="other")
    shutil.rmtree(three)
    done = resume("sweep", "sweep.retry=[oom,failed]", cwd=tmp_path)
    assert "runs: 0_" in done.stdout
    assert "kept: 1_" in done.stdout
    assert "kept: 2_" in done.stdout
    found = records(tmp_path / "sweep")
    assert {name: record["status"] for name, record in found.items()} == {
        one.name: "completed",
        two.name: "failed",
    }, done.stdout
    done = resume("sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {record["status"] for record in records(tmp_path / "sweep").values()} >= {"completed"}
    assert (tmp_path / "sweep" / ".stale" / f"{two.name}.1").exists()


def test_a_run_of_its_own_begins_anew_where_its_code_was_another(tmp_path, cache):
    words = ("batch=05b", "training.max_steps=2", "training.eval_steps=1", "hydra.run.dir=my run")
    assert train(*words, cwd=tmp_path, cache=cache).returncode == 0
    change(tmp_path / "my run" / "record.json", status="interrupted", code_hash="other")
    done = resume("my run", cwd=tmp_path)
    assert "runs: my run: stale (its code of batchopt" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / ".stale" / "my run.1" / "record.json").exists()
    record = json.loads((tmp_path / "my run" / "record.json").read_text())
    assert (record["status"], len(record["attempts"])) == ("completed", 1)


def test_a_run_of_a_sweep_can_be_named_by_itself(tmp_path, cache):
    words = ("-m", "batch=05b", "seed=1,2", "training.max_steps=1", "hydra.sweep.dir=sweep")
    assert train(*words, cwd=tmp_path, cache=cache).returncode == 0
    one, two = sorted((tmp_path / "sweep").glob("[0-9]*"))
    for run in (one, two):
        change(run / "record.json", status="interrupted")
    done = resume(str(two.relative_to(tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(tmp_path / "sweep")
    assert (found[one.name]["status"], found[two.name]["status"]) == ("interrupted", "completed")
