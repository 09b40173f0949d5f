"""One cluster for the whole suite, and sweeps on it as a person starts them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cluster import NODES, Cluster, Unavailable, cluster
from support.fake_nvml import FakeNvml, card

SMALL = (
    *("data.language=en", "data.train_examples=160", "data.validation_examples=8"),
    *("data.max_target_length=24", "model.d_model=16", "model.ffn_dim=32", "model.layers=1"),
    *("training.max_steps=4", "training.logging_steps=1", "device.threads=1", "verify=false"),
)
"""A run of some steps."""

NEVER = "training.max_steps=100000"
"""A run that only ends from outside."""


@dataclass
class Submitted:
    """A sweep that `python -m batchopt.train` runs on the cluster."""

    cwd: Path
    process: "subprocess.Popen[str]"
    output: str = ""
    jobs: dict[int, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        (plan,) = self.cwd.glob("multirun/*/*/sweep.json")
        return plan.parent

    @property
    def run_dirs(self) -> list[Path]:
        return [
            self.folder / job["run_dir"]
            for job in json.loads((self.folder / "sweep.json").read_text())["jobs"]
        ]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads((run_dir / "record.json").read_text()) for run_dir in self.run_dirs]

    def job_ids(self) -> list[str]:
        ids = json.loads((self.folder / "slurm_jobs.json").read_text())
        return [ids[str(number)] for number in range(len(ids))]

    def running(self) -> dict[str, dict[str, Any]]:
        """running.json of every run that has one."""
        found = {}
        for path in self.folder.glob("*/running.json"):
            try:
                found[path.parent.name] = json.loads(path.read_text())
            except FileNotFoundError:  # it has just ended
                continue
        return found

    def steps(self, number: int) -> list[dict[str, Any]]:
        """The training lines of a run so far."""
        path = self.run_dirs[number] / "metrics.jsonl"
        if not path.exists():
            return []
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if row["kind"] == "train"]

    def finish(self, seconds: float = 200) -> int:
        """Waits for the command; returns its exit code."""
        self.output = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode


class Site:
    """A cluster, what its jobs share, and how sweeps are started on it."""

    def __init__(self, running: Cluster, shared: Path, nvml: FakeNvml) -> None:
        self.cluster = running
        self.shared = shared
        self.started: list[subprocess.Popen[str]] = []
        self.environ = os.environ | running.environ | {"OMP_NUM_THREADS": "1"}
        # Every node has GPUs of its own, as NVML shows them there.
        for number, node in enumerate(NODES):
            nvml.reset()
            nvml.set(card(0, uuid=f"GPU-{number}0") | card(1, uuid=f"GPU-{number}1"))
            shutil.copy(nvml.script, shared / f"{node}.nvml")
        self.setup = (
            f"export LD_LIBRARY_PATH={nvml.library.parent} FAKE_NVML={shared}/$SLURMD_NODENAME.nvml"
        )

    def start(self, *words: str, cwd: Path) -> Submitted:
        """Starts a sweep; does not wait for anything."""
        return Submitted(cwd, self._train("-m", "hydra/launcher=test", *words, cwd=cwd))

    def train_here(self, *words: str, cwd: Path) -> Submitted:
        """Starts the same without SLURM."""
        return Submitted(cwd, self._train("-m", *words, cwd=cwd))

    def _train(self, *words: str, cwd: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "batchopt.train", *SMALL]
        process = subprocess.Popen(
            [*command, f"cache_dir={self.shared}/cache", *words],
            cwd=cwd,
            env=self.environ | {"BATCHOPT_CONF": f"file://{self.shared}/conf"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def wait_for(self, what: str, condition: Any, sweep: Submitted, seconds: float = 120) -> Any:
        """Waits for a condition while a sweep goes on."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if sweep.process.poll() not in (None, 0):
                pytest.fail(f"the sweep ended before {what}: {sweep.process.communicate()[0]}")
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.3)
        return found


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    shared = tmp_path_factory.mktemp("shared")
    nvml = FakeNvml(tmp_path_factory.mktemp("nvml"))
    try:
        with cluster() as running:
            site = Site(running, shared, nvml)
            profile = shared / "conf" / "hydra" / "launcher" / "test.yaml"
            profile.parent.mkdir(parents=True)
            # A profile as docs/how-to/slurm.md tells a site to write one.
            profile.write_text(
                "defaults: [slurm, _self_]\n"
                "partition: main\n"
                "mem_gb: 1\n"
                "cpus_per_task: 1\n"
                "timeout_min: 10\n"
                f"setup: ['{site.setup}']\n"
            )
            yield site
    except Unavailable as reason:
        pytest.skip(str(reason))
