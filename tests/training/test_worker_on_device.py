"""The worker's own way through a run, on a device that is not the CPU."""

import time

import pytest
from support.python_device import python_device
from support.python_device_run import SMALL

from batchopt.record.files import read_jsonl
from batchopt.request.compose import compose_run
from batchopt.training import checkpoints, flops, worker
from batchopt.training.build import build_trainer
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events


@pytest.fixture
def run(tmp_path, cache, monkeypatch):
    """Runs the worker in this process; returns its recorder and what happened, in order."""
    monkeypatch.setattr(flops, "measure_peak", lambda *_: 1e12)  # the products take minutes here
    happened = []

    def start(*words):
        request = compose_run([*SMALL, f"cache_dir={cache}", *words])
        recorder = Recorder(tmp_path, Events(None), time.monotonic())
        with python_device() as device:
            monkeypatch.setattr(device, "calls", happened)
            monkeypatch.setattr(recorder.events, "phase", happened.append)
            trainer, _ = build_trainer(request, request.plan, recorder)
            happened.clear()
            worker.train(trainer)
        return recorder

    return start, happened


def test_the_cache_is_emptied_between_training_and_evaluation_before_anybody_is_told(run):
    start, happened = run
    recorder = start("training.logging_steps=2", "training.eval_steps=2")
    told = [what for what in happened if what != "reset_peak_memory_stats"]
    evaluation = ["empty_cache", "evaluate", "empty_cache", "train"]
    assert told[:5] == ["train", *evaluation]
    assert told.count("empty_cache") == 2 * told.count("evaluate")
    for at, what in enumerate(told):
        if what == "evaluate":
            assert (told[at - 1], told[at + 1], told[at + 2]) == ("empty_cache",) * 2 + ("train",)
    assert recorder.other_metrics["mfu"] > 0
    assert {"peak_reserved_bytes", "num_ooms"} <= recorder.other_metrics.keys()


def test_a_run_that_is_killed_between_log_lines_goes_on_from_its_checkpoint(run, tmp_path):
    """Step 2 of 4, with a log line at 1 and 3: what a requeued job does on a GPU."""
    start, _ = run
    words = ["training.logging_steps=3", "training.eval_steps=2", "training.save_checkpoints=true"]
    start(*words)
    undisturbed = list(read_jsonl(tmp_path / "metrics.jsonl"))
    for step in (4,):
        (checkpoints.folder(tmp_path, step) / checkpoints.STATE).unlink()
    recorder = start(*words)
    assert len(recorder.steps) == 4
    again = list(read_jsonl(tmp_path / "metrics.jsonl"))

    def figures(rows):
        return [
            {name: row.get(name) for name in ("kind", "step", "train_loss", "eval_loss")}
            for row in rows
        ]

    assert figures(again) == figures(undisturbed)
