"""One run, one answer: batchopt.status, the analysis and the public readers agree."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, fields

import pytest
from support import TOP
from support.runs import train

from analysis.__main__ import Request, find
from analysis.reading.runs import read_sweeps
from analysis.words import en
from batchopt import read_sweep
from batchopt.record.documents import RECORD_VERSION, PlannedRun, Record, Running, SweepPlan
from batchopt.record.files import append_jsonl, now, write_json
from batchopt.record.metrics import METRICS
from batchopt.record.statuses import Phase, Status
from batchopt.record.write import write_record, write_running
from batchopt.sweeps.progress import LIVE, sweep_status

HERE = os.uname().nodename
LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def sweep(tmp_path):
    """A sweep of one planned run, which another host started."""
    job = PlannedRun(number=0, overrides=("batch=05a",), run_dir="0_batch=05a", preset="05a")
    write_json(tmp_path / "sweep.json", asdict(SweepPlan(command="", jobs=(job,))))
    return tmp_path


@pytest.fixture
def gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(sweep, *, age_s=0.0, memory=False, **running):
    """A run that wrote running.json and, if it came so far, a sample of memory."""
    folder = sweep / "0_batch=05a"
    noted = {"pid": os.getpid(), "hostname": HERE, "attempt_started_at": now()}
    write_running(folder, Running(**noted | running))
    if memory:
        append_jsonl(folder / "memory.jsonl", {"phase": Phase.load, "memory_bytes": 1})
    for path in folder.iterdir():
        os.utime(path, (time.time() - age_s,) * 2)
    return folder


def answers(sweep):
    """Status and cause by each reader; the words of `batchopt.status` for a live run are finer."""
    (shown,) = sweep_status(sweep, {}).runs
    (public,) = read_sweep(sweep)
    (analysed,) = read_sweeps([sweep])[0].runs
    state = Status.running if shown.state in LIVE else shown.state
    if state != Status.running:
        assert shown.cause == public.cause
    assert analysed.cause == public.cause
    return {state, public.status, analysed.status}


def test_a_process_that_is_gone_was_killed(sweep, gone):
    leave(sweep, pid=gone, memory=True)
    assert answers(sweep) == {"killed"}


def test_a_process_that_only_inherited_the_number_is_not_the_run(sweep):
    leave(sweep, attempt_started_at=LONG_AGO, memory=True)
    assert answers(sweep) == {"killed"}


@pytest.mark.parametrize("memory", [False, True])
def test_a_run_that_loads_is_running(sweep, memory):
    """It has no metrics.jsonl yet, and perhaps not even a sample of memory."""
    folder = leave(sweep, memory=memory)
    assert not (folder / "metrics.jsonl").exists()
    assert answers(sweep) == {"running"}


@pytest.mark.parametrize(("age_s", "status"), [(60, "running"), (300, "killed")])
def test_on_another_host_the_age_of_the_files_tells(sweep, gone, age_s, status):
    leave(sweep, age_s=age_s, hostname="elsewhere", pid=gone, memory=True)
    assert answers(sweep) == {status}
    if status == "killed":
        assert read_sweep(sweep)[0].cause == "no sign of life from elsewhere for 5 min"


def test_on_this_host_the_process_tells_and_not_the_age(sweep):
    leave(sweep, age_s=3600)
    assert answers(sweep) == {"running"}


def test_a_run_that_ended_while_it_was_looked_at_has_its_record(sweep, gone, monkeypatch):
    """Between the look for a record and the look for the process the run ends in order."""
    folder = leave(sweep, pid=gone)
    from batchopt.record import read

    look = read.read_running

    def ends(run_dir):
        found = look(run_dir)
        write_record(folder, Record(status=Status.completed))
        return found

    monkeypatch.setattr(read, "read_running", ends)
    assert read_sweep(sweep)[0].status == "completed"


@pytest.mark.parametrize("name", ["record.json", "running.json"])
def test_a_damaged_file_is_a_failed_run_and_named(sweep, name):
    (leave(sweep) / name).write_text('{"schema_ver')
    assert answers(sweep) == {"failed"}
    assert name in read_sweep(sweep)[0].cause


def test_a_damaged_running_json_beside_a_record_does_not_matter(sweep):
    folder = leave(sweep)
    write_record(folder, Record(status=Status.oom, cause="because"))
    (folder / "running.json").write_text("{")
    assert answers(sweep) == {"oom"}


def test_what_never_started_is_missing(sweep):
    os.utime(sweep / "sweep.json", (0, 0))  # nobody is left who would start it
    (shown,) = sweep_status(sweep, {}).runs
    assert [shown.state, read_sweep(sweep)[0].status] == ["missing", "missing"]
    assert read_sweeps([sweep])[0].runs[0].status == "missing"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": {"rouge_f1": "0.5"}}, "metrics.rouge_f1 is '0.5'; it must be a number"),
        ({"metrics": {"timing_untrusted": 3}}, "metrics.timing_untrusted is 3; it must be a list"),
        ({"plan": {"effective_batch_size": 6.5}}, "plan.effective_batch_size is 6.5"),
        ({"metrics": []}, "metrics is []; it must be an object"),
        ({"attempts": [{"status": "oom"}]}, "started_at is None"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"status": "splendid"}, "status is 'splendid'; it must be one of completed, oom"),
        ({"schema_version": None}, "schema_version is None"),
    ],
)
def test_a_wrong_value_is_named_and_a_newer_one_is_unknown(sweep, change, said):
    folder = sweep / "0_batch=05a"
    record = {"schema_version": 2, "status": "completed"}
    write_json(folder / "record.json", record | change)
    (run,) = read_sweep(sweep)
    assert run.status == "failed"
    assert said in run.cause
    if change.keys() & {"metrics", "plan", "attempts", "seed"}:
        write_json(folder / "record.json", record | {"schema_version": 99} | change)
        (run,) = read_sweep(sweep)
        assert (run.status, run.seed) == ("completed", None)
        assert not any(run.metrics.values())


def test_a_record_is_read_as_it_was_written(sweep):
    folder = leave(sweep)
    write_record(folder, Record(status=Status.completed, metrics={"mfu": 0.5}, overrides=("a=1",)))
    (run,) = read_sweep(sweep)
    assert json.loads((folder / "record.json").read_text()) == json.loads(json.dumps(run.record))
    assert run.final.metrics["mfu"] == 0.5
    assert not (folder / "running.json").exists()


def test_the_recorded_sweep_is_as_the_constructor_writes_it():
    """After a change of the schema: read each record, write it again, and read the difference."""
    for path in (TOP / "tests/analysis/recorded").rglob("record.json"):
        document = json.loads(path.read_text())
        assert document["schema_version"] == RECORD_VERSION
        assert document.keys() == {one.name for one in fields(Record)}
        assert document["metrics"].keys() == METRICS.keys()


def test_the_report_of_a_real_sweep_warns_of_no_version(tmp_path, cache):
    """Whoever writes a newer version must teach the reader too."""
    done = train(
        "-m", "batch=05a", "training.max_steps=1", "verify=false", cwd=tmp_path, cache=cache
    )
    assert done.returncode == 0, done.stdout + done.stderr
    analysis = find([tmp_path / "multirun"], Request())
    assert [run.status for run in analysis.runs] == ["completed"]
    assert [run.newer_schema for run in analysis.runs] == [None]
    said = en.limits(analysis.findings)
    assert said, "one seed is a limit"
    assert not [line for line in said if "newer batchopt" in line]
