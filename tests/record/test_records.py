"""Records of older and newer batchopts, and files that a kill or a hand has damaged."""

import json
import os
import subprocess
import sys

import pytest

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.attempts import earlier_attempts
from batchopt.record.read import read_plan, read_record, read_sweep
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import quoted
from batchopt.sweeps.left import is_kept, reopen, what_is_left
from batchopt.sweeps.plan import write_plan
from batchopt.sweeps.tables import exit_code, in_words, print_summary

VERSION_1 = {
    "schema_version": 1,
    "status": "completed",
    "cause": "completed 4 optimizer steps",
    "preset": "05a",
    "plan": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8},
    "metrics": {"steps_per_second": 2.0, "rouge_f1": 0.5, "total_time_s": 60.0},
}
"""Before attempts, phases and the hash of the code."""

VERSION_99 = {
    "schema_version": 99,
    "status": "preempted",
    "cause": {"code": 7, "text": "another kind of cause"},
    "plan": {"shards": [1, 2], "per_device_train_batch_size": 8},
    "metrics": {"steps_per_second": {"median": 2.0}, "rouge_f1": "0.5"},
    "attempts": [{"number": 1, "took": "3 s"}],
    "new": [None],
}
"""Other words, other types, keys that nobody knows yet."""


@pytest.fixture
def sweep(tmp_path):
    planned = compose_sweep(["batch=05a,05b", quoted("hydra.sweep.dir", tmp_path / "sweep")])
    assert not write_plan(planned, "python -m batchopt.train -m batch=05a,05b")
    return planned


def leave(sweep, number, name, value):
    folder = sweep.jobs[number].request.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def states(sweep, **fingerprints):
    return [(left.state, left.again) for left in what_is_left(sweep, fingerprints)]


def test_a_record_of_version_1_is_a_result_and_is_kept(sweep, capsys):
    folder = leave(sweep, 0, "record.json", VERSION_1)
    assert states(sweep) == [("completed", False), ("missing", True)]
    results = read_sweep(sweep.directory)
    assert results[0].status == "completed"
    assert in_words(results[0]) == "completed, 2.00 steps/s, 0.500 ROUGE, 1.0 minutes"
    assert exit_code(results) == 1, "one is missing"
    print_summary(results)
    assert "2.00" in capsys.readouterr().out
    assert earlier_attempts(folder) == []


def test_an_interrupted_record_of_version_1_is_gone_on_with(sweep):
    leave(sweep, 0, "record.json", VERSION_1 | {"status": "interrupted"})
    assert states(sweep)[0] == ("interrupted", True)


def test_a_record_of_a_newer_version_is_shown_and_kept(sweep, capsys):
    folder = leave(sweep, 0, "record.json", VERSION_99)
    assert states(sweep)[0] == ("preempted", False)
    results = read_sweep(sweep.directory)
    assert results[0].status == "preempted"
    assert results[0].metrics["rouge_f1"] is None, "text is no number"
    print_summary(results)
    assert "preempted" in capsys.readouterr().out
    with pytest.raises(RequestError, match="attempts cannot be read"):
        earlier_attempts(folder)


def test_a_plan_of_a_newer_version_goes_on_where_it_is_the_same(sweep):
    path = sweep.directory / files.SWEEP
    newer = json.loads(path.read_text()) | {"schema_version": 99, "new": {}}
    path.write_text(json.dumps(newer))
    assert write_plan(sweep, "another command")
    assert read_plan(sweep.directory).command == newer["command"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": 3}', "\x00", "[" * 100_000])
def test_a_damaged_record_is_named_before_anything_runs(text, sweep):
    folder = leave(sweep, 0, "record.json", text)
    with pytest.raises(RequestError) as refusal:
        what_is_left(sweep, {})
    assert str(folder / "record.json") in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    results = read_sweep(sweep.directory)
    assert results[0].status == "failed"
    assert str(folder / "record.json") in results[0].cause


def test_a_run_without_a_record_is_stale_where_its_code_was_another(sweep):
    """Its checkpoints are of that code; to go on from them would mix two trainings."""
    running = {"pid": 2**22 + 1, "hostname": os.uname().nodename, "code_hash": "other"}
    folder = leave(sweep, 0, "running.json", running)
    assert states(sweep)[0] == ("stale", True)
    reopen(sweep.directory, what_is_left(sweep, {}))
    assert not folder.exists()
    assert (sweep.directory / ".stale" / f"{folder.name}.1" / "running.json").exists()


def test_a_number_that_another_process_has_inherited_keeps_nobody_out(sweep):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        running = {"pid": other.pid, "hostname": os.uname().nodename}
        leave(sweep, 0, "running.json", running)
        with pytest.raises(RequestError, match=f"is being run .* process {other.pid}"):
            what_is_left(sweep, {})
        leave(sweep, 0, "running.json", running | {"attempt_started_at": "2026-01-01T00:00:00Z"})
        assert states(sweep)[0] == ("missing", True)
        other.communicate(b"\n")


def test_what_a_kill_left_is_gone_after_the_next_start(sweep):
    folder = leave(sweep, 0, "record.json", VERSION_1)
    for name in (".metrics.jsonl.a1b2c3d4", ".record.json.abcdefgh", ".reserved", "running.json"):
        (folder / name).write_text("torn")
    reopen(sweep.directory, what_is_left(sweep, {}))
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_a_torn_last_line_costs_that_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [row["step"] for row in files.read_jsonl(path)] == [1, 2]
    files.append_jsonl(path, {"step": 3})
    assert [row["step"] for row in files.read_jsonl(path)] == [1, 2, 3]


def test_the_record_outlives_its_reader_of_another_version(sweep):
    """A sweep that is started again changes no record that it keeps."""
    folder = leave(sweep, 0, "record.json", VERSION_99)
    before = (folder / "record.json").read_bytes()
    reopen(sweep.directory, what_is_left(sweep, {}))
    assert (folder / "record.json").read_bytes() == before
    assert read_record(folder).schema_version == 99


@pytest.mark.parametrize("name", ["a b", "a=b", "a,b", "it's", "[a]", "{a}", "가", "a:b"])
def test_a_directory_of_any_name_is_taken_as_it_is(name, tmp_path):
    planned = compose_sweep(["batch=05a,05b", quoted("hydra.sweep.dir", tmp_path / name)])
    assert planned.directory == tmp_path / name
    again = compose_sweep(["batch=05a,05b", planned.hydra_overrides[-1]])
    assert again.directory == tmp_path / name


def test_what_is_not_asked_for_is_kept_in_the_jobs_too(sweep):
    """The jobs decide on other machines, perhaps; what was said here must hold there."""
    leave(sweep, 0, "record.json", VERSION_1 | {"status": "oom"})
    for job in sweep.jobs:
        job.request.config.sweep.retry = ["oom"]
    left = what_is_left(sweep, {})
    assert [(run.state, run.again) for run in left] == [("oom", True), ("missing", False)]
    reopen(sweep.directory, left)
    assert [is_kept(job.request.run_dir) for job in sweep.jobs] == [False, True]
    for job in sweep.jobs:
        job.request.config.sweep.retry = ["missing"]
    reopen(sweep.directory, what_is_left(sweep, {}))
    assert [is_kept(job.request.run_dir) for job in sweep.jobs] == [True, False]
