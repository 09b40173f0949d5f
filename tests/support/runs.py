"""Small runs through the real command line."""

import json
import os
import sys
from pathlib import Path

from support.processes import begin, run_to_end

SMALL = [
    "data.train_examples=160",
    "data.validation_examples=8",
    "data.max_source_length=96",
    "data.max_target_length=24",
    "model.d_model=16",
    "model.ffn_dim=32",
    "model.layers=1",
    "training.max_steps=4",
    "training.logging_steps=1",
    "device.kind=cpu",
    "metric.tokenizer=rouge_score",
]
"""A run of a few seconds: two epochs of 64, 64 and 32 examples. Kiwi would load for 3 s more."""


def train(*words, cwd, cache, **options):
    command = [sys.executable, "-m", "batchopt.train", *SMALL, f"cache_dir={cache}", *words]
    return run_to_end(command, cwd=cwd, **options)


def start(*words, cwd, cache, env=None):
    """Starts a run; see `begin`."""
    command = [sys.executable, "-m", "batchopt.train", *SMALL, f"cache_dir={cache}", *words]
    return begin(command, cwd=cwd, env=os.environ if env is None else env)


def records(folder: Path):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.rglob("record.json"))
    }


def worker_of(cwd):
    """The pid of the training process below a folder, once it trains."""
    if not list(cwd.rglob("metrics.jsonl")):
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            folder = (process / "cwd").resolve()
        except OSError:
            continue
        if b"batchopt.training.worker" in words and folder == cwd.resolve():
            return int(process.name)
    return None


def resume(folder, *words, cwd):
    return run_to_end([sys.executable, "-m", "batchopt.resume", str(folder), *words], cwd=cwd)
