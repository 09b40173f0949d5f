"""Runs on a real GPU, and the table of what was seen there."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchopt.machine import nvml
from batchopt.record.files import read_jsonl
from support.runs import SMALL, records

MIB = 2**20


def _gpus() -> list[nvml.DeviceInfo]:
    try:
        return nvml.visible_devices(os.environ)
    except nvml.NvmlError:
        return []


GPUS = _gpus()
skip_without_gpu = pytest.mark.skipif(not GPUS, reason="there is no NVIDIA GPU here")

ON_GPU = [word for word in SMALL if not word.startswith("device.kind")] + ["device.kind=cuda"]
WIDE = [
    *("model.vocab_size=3000", "model.d_model=512", "model.ffn_dim=2048", "model.layers=4"),
    *("data.validation_examples=64", "training.max_steps=12"),
]
"""Wide enough that an evaluation fills the allocator's cache with hundreds of MiB."""


class Seen:
    """Collects what was seen beside what was expected, for docs/gpu-checklist.md."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = ["| what | expected | seen |", "|---|---|---|"]
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, what: str, value: object, expected: str = "") -> None:
        """Adds a row; call it before you assert, so that a failure is in the table too."""
        self._lines.append(f"| {what} | {expected} | {value} |")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._lines[-1] + "\n")

    def table(self) -> str:
        """The rows as Markdown."""
        return "\n".join(self._lines)


def run(module: str, *words: str, cwd: Path, cache: Path) -> str:
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *ON_GPU, f"cache_dir={cache}", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def one(*words: str, cwd: Path, cache: Path) -> dict[str, Any]:
    """The record of one run, which completed."""
    cwd.mkdir(exist_ok=True, parents=True)
    run("batchopt.train", "device.wait_for_free=false", *words, cwd=cwd, cache=cache)
    (record,) = records(cwd).values()
    assert record["status"] == "completed", record["cause"]
    return record


def losses(folder: Path) -> dict[int, float]:
    """The training losses of the one run below a folder, by step."""
    (path,) = folder.rglob("metrics.jsonl")
    return {row["step"]: row["train_loss"] for row in read_jsonl(path) if row["kind"] == "train"}
