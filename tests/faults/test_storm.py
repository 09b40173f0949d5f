"""Random kills, and the sweep begun again until it is done: it is the undisturbed sweep.

STORM_KILLS=100 STORM_SEED=1 pytest -m faults tests/faults/test_storm.py -s
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from support.processes import kill, processes, processes_of, wait_until_alone
from support.runs import SMALL

from batchopt.record.files import read_jsonl

pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("STORM_KILLS", "6"))
SEED = int(os.environ.get("STORM_SEED", "0"))
RUNS = ("0_batch=05a", "1_batch=05b")
WORDS = (
    *("-m", "batch=05a,05b", "training.max_steps=30", "training.eval_steps=2"),
    *("model.dropout=0.1", "hydra.sweep.dir=sweep"),
    "sweep.retry=[missing,interrupted,failed,killed]",
)


def command(module, *words):
    return [sys.executable, "-m", f"batchopt.{module}", *words]


def numbers(sweep):
    """What must be the same to the last bit: each run's losses, scores and predictions."""
    found = {}
    for name in RUNS:
        rows = list(read_jsonl(sweep / name / "metrics.jsonl"))
        for row in rows:
            for measured in ("time_s", "train_time_s", "eval_time_s"):
                row.pop(measured, None)
        found[name] = rows, list(read_jsonl(sweep / name / "predictions.jsonl"))
    return found


def check_files(sweep):
    """No file is torn, at no time: whole files are whole, line files but for their last line."""
    for path in sweep.rglob("*.json"):
        if path.parent.parent.name != "checkpoints":  # the Trainer's own may be
            json.loads(path.read_text())
    for path in sweep.rglob("*.jsonl"):
        lines = path.read_text().split("\n")
        for line in lines[:-1]:
            json.loads(line)


class Storm:
    """One sweep, killed and begun again until it is done."""

    def __init__(self, cwd, chance, counts):
        self.cwd = cwd
        self.chance = chance
        self.counts = counts
        self.process = None

    def run(self, cache, kills):
        """Returns how many kills it took; after `kills` nobody is killed any more."""
        done = 0
        words = command("train", *SMALL, f"cache_dir={cache}", *WORDS)
        while True:
            with (self.cwd / "output.txt").open("a") as output:
                self.process = subprocess.Popen(
                    words,
                    cwd=self.cwd,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self.counts["starts"] += 1
            while self.process.poll() is None and done < kills:
                done += self._strike()
            self.process.wait(timeout=300)
            wait_until_alone(self.cwd)
            sweep = self.cwd / "sweep"
            check_files(sweep)
            if self.process.returncode == 0 and self._statuses() == {"completed"}:
                return done
            assert done, (self.cwd / "output.txt").read_text()
            if (sweep / "sweep.json").exists():
                words = command("resume", "sweep")

    def _statuses(self):
        paths = [self.cwd / "sweep" / name / "record.json" for name in RUNS]
        return {
            json.loads(path.read_text())["status"] if path.exists() else "missing" for path in paths
        }

    def _strike(self):
        """Waits a random time, from now or from the next sign of progress, and kills one victim."""
        victim = self.chance.choice(["worker", "supervisor", "all"])
        if self.chance.random() < 0.3:
            self._wait(self.chance.uniform(0, 10))
        else:
            seen = self._checkpoints()
            while self._checkpoints() <= seen and self.process.poll() is None:
                time.sleep(0.01)
            self._wait(self.chance.uniform(0, 2))
        worker = processes_of(self.cwd, "batchopt.training.worker")
        if self.process.poll() is not None or (victim == "worker" and not worker):
            return 0
        if victim == "worker":
            kill(worker)
        elif victim == "supervisor":
            kill([self.process.pid])
        else:
            kill(list(processes(self.cwd)))
        self.counts[victim] += 1
        if victim != "worker":
            self.process.wait()
        return 1

    def _wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.01)

    def _checkpoints(self):
        """The newest step of all runs that can be gone on from."""
        paths = self.cwd.glob("sweep/*/checkpoints/checkpoint-*/batchopt.json")
        return max(
            ((path.parts[-4], int(path.parent.name.rpartition("-")[2])) for path in paths),
            default=("", 0),
        )


def test_a_sweep_killed_at_random_ends_as_if_it_had_never_been_disturbed(tmp_path, cache):
    calm = tmp_path / "calm"
    calm.mkdir()
    done = subprocess.run(
        command("train", *SMALL, f"cache_dir={cache}", *WORDS),
        cwd=calm,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = numbers(calm / "sweep")
    assert len(expected[RUNS[0]][0]) == 30 + 16, "30 steps; an evaluation before and every 2"
    counts, chance, began, total = Counter(), random.Random(SEED), time.monotonic(), 0
    attempts = Counter()
    while total < KILLS:
        cwd = tmp_path / f"storm-{counts['sweeps']}"
        cwd.mkdir()
        total += Storm(cwd, chance, counts).run(cache, KILLS - total)
        counts["sweeps"] += 1
        assert numbers(cwd / "sweep") == expected
        for name in RUNS:
            run = cwd / "sweep" / name
            record = json.loads((run / "record.json").read_text())
            assert record["metrics"]["optimizer_steps_done"] == 30
            attempts[len(record["attempts"])] += 1
            assert not [
                path for path in run.iterdir() if path.name.startswith(".") and path.is_file()
            ]
            assert not (run / "running.json").exists()
        print(total, dict(counts), f"{time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(cwd)
    print(f"kills {total}, {dict(counts)}, attempts of a run: {dict(sorted(attempts.items()))}")
