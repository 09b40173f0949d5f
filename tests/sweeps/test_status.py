"""python -m batchopt.status: what a sweep is doing, from its files alone."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.processes import begin, finish, run_to_end, wait_for
from support.runs import SMALL

from batchopt.record.documents import PlannedRun, Record, Running, SweepPlan
from batchopt.record.files import now, write_json, write_jsonl
from batchopt.record.write import write_record, write_running
from batchopt.slurm.jobs import JobState, SweepJob
from batchopt.sweeps.progress import find_sweep, sweep_status

HERE = os.uname().nodename
COMMAND = [sys.executable, "-m", "batchopt.status"]


def status(*words, cwd, **options):
    return run_to_end([*COMMAND, *words], cwd=cwd, **options)


def stamp(ago_s):
    moment = datetime.now(UTC) - timedelta(seconds=ago_s)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def age(path, ago_s):
    os.utime(path, (time.time() - ago_s,) * 2)


@pytest.fixture
def gone():
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


class Tree:
    """A sweep on disk, as its own programs would have left it."""

    def __init__(self, directory: Path, presets=("05a", "05b", "05c"), **launcher):
        self.directory = directory
        directory.mkdir(parents=True)
        # Without another word this test is the command that runs the sweep.
        plan = SweepPlan(
            command="python -m batchopt.train",
            jobs=tuple(
                PlannedRun(
                    number=number,
                    overrides=(f"batch={preset}",),
                    run_dir=f"{number}_batch={preset}",
                    preset=preset,
                )
                for number, preset in enumerate(presets)
            ),
            **{"pid": os.getpid(), "hostname": HERE, "launched_at": now()} | launcher,
        )
        write_json(directory / "sweep.json", asdict(plan))

    def run(self, number):
        (folder,) = self.directory.glob(f"{number}_*") or [None]
        return folder

    def _folder(self, number):
        jobs = json.loads((self.directory / "sweep.json").read_text())["jobs"]
        folder = self.directory / jobs[number]["run_dir"]
        folder.mkdir(exist_ok=True)
        return folder

    def ended(self, number, state="completed", **metrics):
        record = Record(
            status=state,
            cause=f"because of {state}",
            plan={"optimizer_steps": 160},
            metrics={"optimizer_steps_done": 160, "total_time_s": 100.0} | metrics,
            environment={"device_kind": "cpu"},
        )
        write_record(self._folder(number), record)

    def running(self, number, step=None, phase="train", **running):
        folder = self._folder(number)
        facts = {
            "pid": os.getpid(),
            "hostname": HERE,
            "started_at": stamp(60.0),
            "attempt_started_at": now(),
            "per_device_train_batch_size": 8,
            "optimizer_steps": 160,
        } | running
        write_running(folder, Running(**facts))
        rows = [{"phase": "load", "memory_bytes": 9 * 2**30}]
        rows += [{"phase": phase, "memory_bytes": size * 2**30} for size in (2, 3, 1)]
        write_jsonl(folder / "memory.jsonl", rows)
        if step is not None:
            # Two steps a second, and an evaluation that takes 10 s of the wall clock.
            rows = [{"kind": "evaluation", "step": 0, "rouge_f1": 0.01}]
            rows += [train_row(each) for each in (1, *range(5, step, 5))]
            rows += [{"kind": "evaluation", "step": step, "rouge_f1": 0.25}, train_row(step, 10.0)]
            write_jsonl(folder / "metrics.jsonl", rows)
        return folder

    def read(self, jobs=None):
        return sweep_status(self.directory, jobs or {})

    def states(self, jobs=None):
        return [run.state for run in self.read(jobs).runs]


def train_row(step, evaluated_s=0.0):
    clocks = {"time_s": 5.0 + step / 2 + evaluated_s, "train_time_s": step / 2}
    return {"kind": "train", "step": step, "train_loss": 5 - step / 100, **clocks}


# One run


def test_a_run_that_trains_is_shown_with_its_speed_and_what_is_left(tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=81)
    run = tree.read().runs[0]
    assert (run.state, run.preset, run.step, run.steps) == ("training", "05a", 81, 160)
    assert run.steps_per_second == pytest.approx(2.0), "the steady speed leaves evaluations out"
    assert run.loss == pytest.approx(4.19)
    assert run.rouge_f1 == 0.25
    assert run.peak_memory_bytes == 3 * 2**30, "of the training, not of the loading"
    assert run.left_s == pytest.approx(79 * (40 + 10) / 80), "what is left has evaluations too"
    assert run.runs_on == "CPU"


def test_lines_that_a_kill_tore_are_no_lines(tmp_path):
    tree = Tree(tmp_path / "sweep")
    folder = tree.running(0, step=81)
    expected = tree.read().runs[0]
    for name, torn in (
        ("metrics.jsonl", '{"kind": "train", "step": 8'),
        ("metrics.jsonl", '\n{"kind": "evaluation", "st\n'),
        ("memory.jsonl", '{"phase": "train", "memo'),
    ):
        with (folder / name).open("a") as stream:
            stream.write(torn)
    found = tree.read().runs[0]
    assert found.step == expected.step == 81
    assert found.rouge_f1 == expected.rouge_f1
    assert found.peak_memory_bytes == expected.peak_memory_bytes
    (folder / "running.json").write_text('{"pid": ')
    (failed, *_) = tree.read().runs
    assert failed.state == "failed"
    assert str(folder / "running.json") in failed.cause


@pytest.mark.parametrize(
    ("phase", "state"),
    [("load", "loading"), ("train", "training"), ("evaluate", "evaluating"), ("save", "saving")],
)
def test_the_phase_is_the_state(phase, state, tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, phase=phase)
    assert tree.states() == [state, "waiting", "waiting"]


def test_a_run_of_which_little_is_known_yet(tmp_path):
    tree = Tree(tmp_path / "sweep")
    folder = tree.running(0, optimizer_steps=None)
    (folder / "memory.jsonl").unlink()
    run = tree.read().runs[0]
    assert (run.state, run.step, run.left_s, run.loss) == ("starting", None, None, None)


def test_a_gpu_is_named_so_that_two_of_a_kind_differ(tmp_path):
    tree = Tree(tmp_path / "sweep")
    uuid = "GPU-1932f937-d72c-4106-c12f-20bd9faed9f6"
    tree.running(0, device_uuid=uuid, device_name="NVIDIA A100-SXM4-40GB")
    assert tree.read().runs[0].runs_on == "GPU-1932f937 A100-SXM4-40GB"


# Runs that end, or die without a word


@pytest.mark.parametrize(
    "state", ["completed", "oom", "failed", "killed", "timeout", "interrupted"]
)
def test_what_a_record_says_holds(state, tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.ended(0, state, steps_per_second=2.5, rouge_f1=0.5)
    tree.running(0, step=20)  # a file that was about to be removed
    run = tree.read().runs[0]
    assert (run.state, run.step, run.steps_per_second, run.rouge_f1) == (state, 160, 2.5, 0.5)
    assert run.cause == ("" if state == "completed" else f"because of {state}")


def test_a_run_with_a_process_that_is_gone_was_killed(gone, tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=20, pid=gone)
    assert tree.states()[0] == "killed"
    tree.running(0, step=20, pid=gone, hostname="elsewhere")
    assert tree.states()[0] == "training", "another host's processes cannot be seen"


def test_a_process_that_only_inherited_the_number_is_not_the_run(tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=20, attempt_started_at=stamp(10 * 24 * 3600))
    assert tree.states()[0] == "killed"


def test_no_heartbeat_for_two_minutes_is_no_sign_of_life(tmp_path):
    tree = Tree(tmp_path / "sweep")
    folder = tree.running(0, step=20, hostname="node7")
    for name in ("running.json", "memory.jsonl"):
        age(folder / name, 300)
    run = tree.read().runs[0]
    assert (run.state, run.left_s) == ("killed", None)
    assert run.cause == "no sign of life from node7 for 5 min"
    age(folder / "running.json", 100)
    assert tree.states()[0] == "training", "either file is a heartbeat"


@pytest.mark.parametrize(("ago_s", "state"), [(10, "waiting"), (3600, "missing")])
def test_who_waits_for_nobody_is_missing(ago_s, state, gone, tmp_path):
    tree = Tree(tmp_path / "here", pid=gone)
    tree.ended(0)
    assert tree.states() == ["completed", "missing", "missing"]
    tree.running(1, step=20)
    assert tree.states() == ["completed", "training", "waiting"], "something does go on"
    tree = Tree(tmp_path / "elsewhere", hostname="elsewhere")
    tree.ended(0)
    for path in (tree.directory / "sweep.json", tree.run(0) / "record.json"):
        age(path, ago_s)
    assert tree.states() == ["completed", state, state]


# SLURM


def jobs_of(tree, *states):
    folders = sorted(json.loads((tree.directory / "sweep.json").read_text())["jobs"], key=str)
    return {
        folder["run_dir"]: SweepJob(tree.directory / folder["run_dir"], f"17_{number}", state)
        for number, (folder, state) in enumerate(zip(folders, states, strict=False))
    }


def test_slurm_says_what_waits_why_and_where_it_runs(gone, tmp_path):
    tree = Tree(tmp_path / "sweep", pid=gone)  # hydra.launcher.wait=false
    tree.running(0, step=20, hostname="node7", slurm_job_id="17_0")
    jobs = jobs_of(
        tree,
        JobState("RUNNING", node="node7", elapsed_s=70.0),
        JobState("PENDING", reason="Resources"),
        None,
    )
    found = tree.read(jobs).runs
    assert [(run.state, run.runs_on) for run in found] == [
        ("training", "job 17_0 (node7)"),
        ("queued", "job 17_1 (Resources)"),
        ("queued", "job 17_2 (SLURM does not tell)"),
    ]
    assert not tree.read(jobs).ended


def test_a_job_that_was_put_back_into_the_queue_waits_again(tmp_path):
    tree = Tree(tmp_path / "sweep", ["05a", "05b"])
    tree.running(0, step=20, hostname="node7")
    jobs = jobs_of(tree, JobState("PENDING", reason="BeginTime"), JobState("RUNNING", node="node8"))
    assert tree.states(jobs) == ["queued", "starting"]


def test_a_job_that_slurm_ended_has_ended(tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=20, hostname="node7")
    jobs = jobs_of(
        tree,
        JobState("OUT_OF_MEMORY", node="node7"),
        JobState("CANCELLED", reason="1000"),
        JobState("NODE_FAIL", node="node8"),
    )
    found = tree.read(jobs)
    assert [run.state for run in found.runs] == ["oom", "interrupted", "killed"]
    assert "CANCELLED 1000, before it started" in found.runs[1].cause
    assert found.ended


def test_slurm_is_asked_only_about_runs_without_a_record(tmp_path):
    tree = Tree(tmp_path / "sweep", ["05a", "05b"])
    (tree.directory / "slurm_jobs.json").write_text('{"0": "17_0", "1": "17_1"}')
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "17_1|PENDING|Priority||0:00"\n'
    )
    program.chmod(0o755)
    env = os.environ | {"PATH": str(program.parent)}
    tree.ended(0)
    done = status(str(tree.directory), cwd=tmp_path, env=env)
    assert "job 17_1 (Priority)" in done.stdout
    asked = (tmp_path / "asked").read_text()
    tree.ended(1)
    assert "2 of 2 runs ended" in status(str(tree.directory), cwd=tmp_path, env=env).stdout
    assert (tmp_path / "asked").read_text() == asked


# The sweep


def test_the_sweep_ends_when_its_last_run_is_expected_to(tmp_path):
    tree = Tree(tmp_path / "sweep", [str(number) for number in range(7)])
    tree.ended(0, total_time_s=100.0)
    assert tree.read().left_s is None, "nothing runs, nothing tells"
    for number in (1, 2):
        tree.running(number, step=81)
    sweep = tree.read()
    (left,) = {run.left_s for run in sweep.runs[1:3]}
    mean = (100 + 2 * (60 + left)) / 3
    # Four wait for two places: two rounds after the ones that run.
    assert sweep.left_s == pytest.approx(left + 2 * mean, abs=3)
    assert sweep.done == pytest.approx((1 + 2 * 81 / 160) / 7)


def test_a_sweep_with_all_runs_over_has_ended(tmp_path):
    tree = Tree(tmp_path / "sweep")
    for number, state in enumerate(("completed", "oom", "failed")):
        tree.ended(number, state)
    assert tree.read().ended
    assert tree.read().done == 1.0


# The command


def test_each_run_is_one_line_in_a_pipe_however_narrow(tmp_path):
    tree = Tree(tmp_path / "multirun" / "2026-11-24" / "10-00-00")
    tree.ended(0, "oom", peak_memory_bytes=5 * 2**30)
    tree.running(1, step=81)
    done = status(cwd=tmp_path, env=os.environ | {"COLUMNS": "20"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    path, heading, *rows, progress, cause = done.stdout.splitlines()
    assert path == "multirun/2026-11-24/10-00-00"
    assert heading.split()[:4] == ["run", "preset", "state", "step"]
    assert [row.split()[:4] for row in rows] == [
        ["0_batch=05a", "05a", "oom", "160/160"],
        ["1_batch=05b", "05b", "training", "81/160"],
        ["2_batch=05c", "05c", "waiting"],
    ]
    assert re.match(r"50%: 1 of 3 runs ended, 1 training, 1 waiting; about 3 min left", progress)
    assert cause == "0_batch=05a: oom: because of oom"


def test_the_newest_sweep_is_taken_and_any_other_can_be_named(tmp_path):
    old = Tree(tmp_path / "multirun" / "2026-11-23" / "10-00-00").directory
    new = Tree(tmp_path / "multirun" / "2026-11-22" / "10-00-00").directory
    age(old / "sweep.json", 100)
    assert find_sweep(tmp_path / "multirun") == new
    assert find_sweep(tmp_path / "multirun" / "2026-11-23") == old
    for word in (str(old), f"sweep={old}"):
        assert status(word, cwd=tmp_path).stdout.splitlines()[0] == str(old)


def test_a_single_run_is_a_sweep_of_one(tmp_path):
    tree = Tree(tmp_path / "sweep")
    folder = tree.running(0, step=81)
    run = status(str(folder), cwd=tmp_path).stdout.splitlines()[2]
    assert run.split()[:3] == ["0_batch=05a", "training", "81/160"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "nowhere is not a directory"),
        ([], "multirun is not a directory"),
        (["other"], "holds no sweep"),
        (["damaged"], "damaged/sweep.json cannot be read as JSON"),
        (["empty"], "empty/sweep.json plans no run"),
        ([".", "watch=yes"], "watch is yes; it must be true or false"),
        ([".", "damaged"], "one SWEEP at a time"),
        (["--watch"], "--watch: no such flag"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(words, expected, tmp_path):
    for name, text in (
        ("damaged", '{"jobs": [{"number": 0}'),
        ("empty", '{"schema_version": 1, "command": "", "jobs": []}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.json").write_text(text)
    (tmp_path / "other").mkdir()
    done = status(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchopt: ")
    assert expected in line


def test_nothing_slow_is_imported(tmp_path):
    Tree(tmp_path / "multirun" / "a" / "b").ended(0)
    words = [sys.executable, "-X", "importtime", *COMMAND[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert not loaded & {"torch", "transformers", "pandas", "numpy", "hydra", "omegaconf", "pynvml"}


def test_reading_writes_nothing(tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=81)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert status(str(tree.directory), cwd=tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Watching


def test_in_a_pipe_each_change_is_a_line_until_the_sweep_has_ended(tmp_path):
    tree = Tree(tmp_path / "sweep", ["05a", "05b"])
    tree.running(0, step=20)
    watching = subprocess.Popen(
        [*COMMAND, "sweep", "watch=true"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert watching.stdout.readline().split()[1:] == ["0_batch=05a:", "training"]
    assert watching.stdout.readline().split()[1:] == ["1_batch=05b:", "waiting"]
    tree.ended(0)
    tree.running(1, phase="load")
    assert watching.stdout.readline().split()[1:] == ["0_batch=05a:", "completed"]
    assert watching.stdout.readline().split()[1:] == ["1_batch=05b:", "loading"]
    tree.ended(1, "oom")
    rest, _ = finish(watching, 60)
    assert watching.returncode == 0
    assert "2 of 2 runs ended; next: python -m analysis sweep=sweep" in rest
    assert rest.splitlines()[-1] == "1_batch=05b: oom: because of oom"


class Terminal:
    """A program on a screen of its own."""

    def __init__(self, words, cwd, columns=100, lines=24):
        self.end, terminal = pty.openpty()
        size = {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            words, cwd=cwd, stdout=terminal, stderr=terminal, env=os.environ | size
        )
        os.close(terminal)
        self.shown = b""

    def read_until(self, word):
        while word not in self.shown:
            chunk = self._read()
            assert chunk, f"{word!r} never came: {self.shown!r}"
            self.shown += chunk

    def rest(self):
        while chunk := self._read():
            self.shown += chunk
        return self.process.wait(timeout=60)

    def _read(self):
        try:
            return os.read(self.end, 65536)
        except OSError:  # the program has closed its end
            return b""


def test_a_terminal_is_kept_up_to_date_until_the_sweep_has_ended(tmp_path):
    tree = Tree(tmp_path / "sweep", ["05a", "05b"])
    tree.running(0, step=20)
    screen = Terminal([*COMMAND, "sweep", "watch=true"], tmp_path)
    screen.read_until(b"20/160")
    tree.running(0, step=81)
    screen.read_until(b"81/160")
    for number in (0, 1):
        tree.ended(number)
    screen.read_until(b"2 of 2 runs ended")
    assert screen.rest() == 0
    assert b"\x1b[32mcompleted" in screen.shown


def test_ctrl_c_ends_the_watching_and_gives_the_cursor_back(tmp_path):
    tree = Tree(tmp_path / "sweep")
    tree.running(0, step=20)
    screen = Terminal([*COMMAND, "sweep", "watch=true"], tmp_path)
    screen.read_until(b"20/160")
    screen.process.send_signal(signal.SIGINT)
    assert screen.rest() == 130
    assert screen.shown.rindex(b"\x1b[?25h") > screen.shown.rindex(b"\x1b[?25l")
    assert b"Traceback" not in screen.shown


def test_where_the_window_is_too_small_the_runs_that_go_on_are_shown(tmp_path):
    tree = Tree(tmp_path / "sweep", [f"{number:02d}" for number in range(40)])
    for number in range(39):
        tree.ended(number)
    tree.running(39, step=20)
    screen = Terminal([*COMMAND, "sweep", "watch=true"], tmp_path, lines=20)
    screen.read_until(b"39_batch=39")
    screen.read_until(b"28 runs more do not fit")
    screen.process.send_signal(signal.SIGINT)
    screen.rest()


# A real one


@pytest.mark.slow
def test_a_real_run_is_seen_from_outside_and_dies_before_its_eyes(tmp_path, cache):
    words = [*SMALL, "data.train_examples=640", "training.max_steps=4000", "training.eval_steps=20"]
    command = [sys.executable, "-m", "batchopt.train", "-m", "batch=05a,05b", *words]
    command += ["verify=false", f"cache_dir={cache}"]
    sweep = begin(command, cwd=tmp_path, env=os.environ)

    def run():
        plans = list(tmp_path.glob("multirun/*/*/sweep.json"))
        return plans and sweep_status(plans[0].parent, {}).runs[0]

    try:
        trained = wait_for(lambda: (seen := run()) and seen.left_s and seen, "training", 120)
        assert trained.state in ("training", "evaluating")
        assert trained.steps == 4000
        assert 0 < trained.step < 4000
        assert trained.steps_per_second > 0
        assert trained.loss > 0
        assert trained.rouge_f1 is not None
        assert trained.peak_memory_bytes > 50 * 2**20
        assert trained.runs_on == "CPU"
    finally:
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    (_, _, first, second, progress, *causes) = status(cwd=tmp_path).stdout.splitlines()
    assert first.split()[:3] == ["0_batch=05a", "05a", "killed"]
    assert second.split()[:3] == ["1_batch=05b", "05b", "missing"]
    assert progress.startswith("100%: 2 of 2 runs ended")
    assert len(causes) == 2
