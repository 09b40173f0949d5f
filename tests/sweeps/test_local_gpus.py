"""`hydra/launcher=local_gpus`: one run per GPU, whatever else goes on on the machine."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support import TOP
from support.fake_nvml import GIB, card, card_uuid
from support.processes import begin, finish

TESTS = TOP / "tests"
CARDS = A, B, C = card_uuid(0), card_uuid(1), card_uuid(2)
SEEDS = "seed=1,2,3,4,5,6,7"


class Sweep:
    """A sweep of jobs that note their devices, in a directory of its own."""

    def __init__(self, directory: Path, *words: str, launcher: str, **environ: str) -> None:
        self.directory = directory
        self.log = directory.parent / "log.jsonl"
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-c",
                    "from support import local_gpus_app; local_gpus_app.main()",
                    "-m",
                ),
                *(f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}"),
                *("hydra.sweep.subdir=${hydra.job.num}_${seed}", *words),
            ],
            env={name: value for name, value in os.environ.items() if "SLURM" not in name}
            | {"PYTHONPATH": path, "LOG": str(self.log), "SECONDS": "0.2"}
            | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def output(self) -> str:
        return finish(self.process, 300)[0]

    def rows(self, *, ended: bool = True) -> list[dict]:
        text = self.log.read_text() if self.log.exists() else ""
        rows = [json.loads(line) for line in text.splitlines()]
        return [row for row in rows if ("end" in row) == ended]

    def statuses(self) -> dict[str, str]:
        records = sorted(self.directory.rglob("record.json"))
        return {path.parent.name: json.loads(path.read_text())["status"] for path in records}


@pytest.fixture
def sweep(tmp_path, library):
    """Starts sweeps on three cards that share their leases and their notes."""
    library.reset()
    library.set(card(0) | card(1) | card(2))
    started = []

    def start(
        *words: str, name: str = "sweep", launcher: str = "local_gpus", **environ: str
    ) -> Sweep:
        given = library.environ | {"BATCHOPT_LEASE_DIR": str(tmp_path / "leases")} | environ
        started.append(Sweep(tmp_path / name, *words, launcher=launcher, **given))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def until(condition, what: str, sweep: Sweep | None = None):
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert sweep is None or sweep.process.poll() is None, sweep.output()
        assert time.monotonic() < deadline, f"waited two minutes for {what}"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def assert_never_two(rows: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: row["begin"])
    for device in {row["device"] for row in rows}:
        for first, second in pairwise([row for row in rows if row["device"] == device]):
            assert first["end"] < second["begin"], (first, second)


def most_at_once(rows: list[dict]) -> int:
    return max(sum(a["begin"] <= b["begin"] < a["end"] for a in rows) for b in rows)


def test_every_visible_gpu_has_one_run_at_a_time(sweep, tmp_path):
    one = sweep(SEEDS, CUDA_VISIBLE_DEVICES="2,0", UNTIL=str(tmp_path / "go on"))
    first = [one.process.stdout.readline().strip() for _ in range(3)]
    until(lambda: len(one.rows(ended=False)) == 2, "two runs", one)
    (tmp_path / "go on").touch()
    output = one.output()
    assert one.process.returncode == 0, output
    rows = one.rows()
    assert {row["device"] for row in rows} == {A, C}
    assert all(row["visible"] == row["device"] for row in rows), "it sees that one alone"
    assert_never_two(rows)
    assert most_at_once(rows) == 2
    assert set(one.statuses().values()) == {"completed"}
    assert len(one.statuses()) == 7
    assert first == [
        f"0_1: started on NVIDIA A100-SXM4-40GB, {C}",
        f"1_2: started on NVIDIA A100-SXM4-40GB, {A}",
        "2_3: waits for 0_1; 1_2",
    ]
    assert "6_7: completed" in output.splitlines()
    assert not list(one.directory.parent.glob("leases/*.ticket"))


def test_the_folders_of_runs_are_what_hydras_own_launcher_makes(sweep):
    one = sweep("seed=1,2")
    other = sweep("seed=1,2", name="basic", launcher="basic")
    for each in (one, other):
        output = each.output()
        assert each.process.returncode == 0, output

    def files(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    assert files(one.directory) == files(other.directory)
    for name in ("config", "overrides"):
        mine, basic = (
            (each.directory / "1_2" / ".hydra" / f"{name}.yaml").read_text()
            for each in (one, other)
        )
        assert mine == basic


def test_two_sweeps_at_once_never_share_a_gpu_and_take_turns(sweep):
    one = sweep(SEEDS, name="one", SECONDS="0.5")
    two = sweep(SEEDS, name="two", SECONDS="0.5", CUDA_VISIBLE_DEVICES="1,2")
    outputs = one.output() + two.output()
    assert (one.process.returncode, two.process.returncode) == (0, 0), outputs
    rows = one.rows()
    assert len(rows) == 14
    assert_never_two(rows)
    assert {row["device"] for row in rows} == set(CARDS)
    assert f"{two.directory}/" in outputs or f"{one.directory}/" in outputs, "for whom they wait"


def test_a_gpu_that_others_use_is_left_to_them(sweep, library):
    for number in (0, 1, 2):
        library.set({f"gpu{number}.processes": f"4242:{GIB}"})
    one = sweep("seed=1,2")
    line = one.process.stdout.readline()
    assert line.startswith(f"0_1: waits for {A} is used outside batchopt by pid 4242")
    assert f"{C} is used outside batchopt" in line
    library.set({"gpu1.processes": ""})
    one.output()
    assert [row["device"] for row in one.rows()] == [B, B]


def test_a_killed_job_stops_no_other_and_is_told_of(sweep):
    one = sweep("seed=1,99,3", CUDA_VISIBLE_DEVICES=A)
    output = one.output()
    assert one.process.returncode == 0, output
    assert one.statuses() == {"0_1": "completed", "2_3": "completed"}
    assert "1_99: missing: it left no record" in output
    assert "1_99: SIGKILL" in output


def test_without_a_gpu_one_runs_after_the_other(sweep):
    one = sweep("seed=1,2,3", "device.kind=cpu")
    output = one.output()
    rows = one.rows()
    assert [row["device"] for row in rows] == ["cpu"] * 3, output
    assert most_at_once(rows) == 1


def test_a_sweep_that_is_started_again_runs_what_is_left(sweep):
    first = sweep("seed=1,99,3")
    first.output()
    second = sweep("seed=1,99,3")
    second.output()
    begun = [row["run"] for row in second.rows(ended=False)]
    assert sorted(begun) == ["0_1", "1_99", "1_99", "2_3"]


def test_inside_slurm_the_gpus_are_the_jobs_own(sweep, library, tmp_path):
    library.set({"gpu0.processes": f"4242:{GIB}"})
    one = sweep(SEEDS, SLURM_JOB_ID="7", CUDA_VISIBLE_DEVICES="0,1", UNTIL=str(tmp_path / "go on"))
    until(lambda: len(one.rows(ended=False)) == 2, "two runs", one)
    (tmp_path / "go on").touch()
    output = one.output()
    rows = one.rows()
    assert {row["device"] for row in rows} == {A, B}, output
    assert_never_two(rows)
    assert most_at_once(rows) == 2
    assert not (tmp_path / "leases").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_each_run_in_order_and_nothing_starts_after_it(sweep, number):
    one = sweep(SEEDS, SECONDS="600", CUDA_VISIBLE_DEVICES="0,1")
    until(lambda: len(one.rows(ended=False)) == 2, "two runs", one)
    one.process.send_signal(number)
    output = one.output()
    assert one.process.returncode != 0
    assert one.statuses() == {"0_1": "interrupted", "1_2": "interrupted"}, output
    assert [row["signals"] for row in one.rows()] == [[number]] * 2, "each is told once"
    assert not any(alive(row["pid"]) for row in one.rows())


def test_a_second_ctrl_c_is_passed_on(sweep):
    one = sweep("seed=1,2", SECONDS="600", LINGER="4", CUDA_VISIBLE_DEVICES="0,1")
    until(lambda: len(one.rows(ended=False)) == 2, "two runs", one)
    one.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    one.process.send_signal(signal.SIGINT)  # the first one, sent twice as some launchers do
    time.sleep(1.6)
    one.process.send_signal(signal.SIGINT)
    output = one.output()
    assert [row["signals"] for row in one.rows()] == [[signal.SIGINT] * 2] * 2, output


def test_no_run_outlives_a_killed_launcher(sweep):
    one = sweep(SEEDS, SECONDS="600")
    rows = until(lambda: len(one.rows(ended=False)) == 3 and one.rows(ended=False), "runs", one)
    one.process.kill()
    one.output()
    for row in rows:
        until(lambda pid=row["pid"]: not alive(pid), "the run to end")
    assert set(one.statuses().values()) == {"interrupted"}, "in order, with a record"
    again = sweep("seed=1", name="again")
    again.output()
    assert again.statuses() == {"0_1": "completed"}, "no lease is stuck"


def test_a_killed_run_frees_its_gpu(sweep):
    one = sweep("seed=1", SECONDS="600", CUDA_VISIBLE_DEVICES="0")
    (row,) = until(lambda: one.rows(ended=False), "the run", one)
    two = sweep("seed=2", name="two", CUDA_VISIBLE_DEVICES="0")
    line = two.process.stdout.readline()
    assert f"has {one.directory}/0_1 (pid {row['pid']} of " in line
    os.kill(row["pid"], signal.SIGKILL)
    two.output()
    assert two.statuses() == {"0_2": "completed"}


@pytest.fixture
def train(tmp_path, library):
    """The real command line; torch finds no CUDA and trains anyway, "on" two cards."""
    from support.runs import SMALL

    library.reset()
    library.set(card(0) | card(1))
    small = [word for word in SMALL if not word.startswith("device.kind")]

    def start(*words: str):
        command = [sys.executable, "-m", "batchopt.train", *small, f"cache_dir={tmp_path}/cache"]
        sweep = ["-m", "batch=05a,05b,05c", "hydra/launcher=local_gpus", *words]
        env = os.environ | library.environ | {"BATCHOPT_LEASE_DIR": str(tmp_path / "leases")}
        return begin([*command, *sweep], cwd=tmp_path, env=env)

    return start


def records(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("record.json")}


@pytest.mark.slow
def test_the_persons_sweep_in_parallel(train, tmp_path):
    process = train()
    output, _ = finish(process, 300)
    assert process.returncode == 0, output
    assert {name: record["status"] for name, record in records(tmp_path).items()} == {
        "0_batch=05a": "completed",
        "1_batch=05b": "completed",
        "2_batch=05c": "completed",
    }
    assert "0_batch=05a: started on NVIDIA A100-SXM4-40GB" in output
    assert "1_batch=05b: completed, " in output
    assert "steps/s" in output
    assert "it/s" not in output, "bars of several runs would be a muddle"


@pytest.mark.slow
def test_ctrl_c_ends_the_persons_sweep_with_records(train, tmp_path):
    process = train("training.max_steps=4000", "verify=false")
    until(lambda: len(list(tmp_path.rglob("metrics.jsonl"))) == 2, "two trainings")
    os.kill(process.pid, signal.SIGINT)
    output, _ = finish(process, 300)
    assert process.returncode == 130, output
    ended = records(tmp_path)
    assert sorted(ended) == ["0_batch=05a", "1_batch=05b"]
    assert all(record["status"] == "interrupted" for record in ended.values())
    assert all("Ctrl-C" in record["cause"] for record in ended.values())
