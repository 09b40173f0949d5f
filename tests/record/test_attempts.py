"""What a run's attempts add up to, and what is tried after one that did not fit."""

import json

import pytest
import torch

from batchopt.record.attempts import earlier_attempts, over_attempts
from batchopt.record.documents import Attempt, Running
from batchopt.record.files import append_jsonl
from batchopt.record.statuses import Status
from batchopt.record.write import write_running
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import OnOom
from batchopt.run.verdict import AttemptPlan, after_out_of_memory
from batchopt.training.step_times import PARTS, StepClock


def attempt(seconds=10.0, *, size=16, energy=None, peak=5, mean=4.0, checkpointing=False, **more):
    return Attempt(
        started_at="2026-11-24T00:00:00Z",
        status=Status.interrupted,
        memory_source="process_anonymous",
        duration_s=seconds,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=64 // size,
        gradient_checkpointing=checkpointing,
        peak_memory_bytes=peak,
        mean_memory_bytes=mean,
        energy_j=energy,
        **more,
    )


def test_time_and_energy_are_those_of_all_attempts():
    figures = over_attempts([attempt(10, energy=100.0), attempt(30, energy=50.0)])
    assert figures["total_time_s"] == 40
    assert figures["energy_j"] == 150


def test_a_part_of_the_energy_is_not_given_for_all_of_it():
    assert over_attempts([attempt(energy=None), attempt(energy=5.0)])["energy_j"] is None


def test_memory_is_that_of_the_way_to_cut_that_the_run_ended_with():
    figures = over_attempts(
        [
            attempt(10, size=64, peak=90, mean=80.0),
            attempt(10, size=32, peak=40, mean=30.0),
            attempt(30, size=32, peak=35, mean=20.0),
        ]
    )
    assert figures["peak_memory_bytes"] == 40
    assert figures["mean_memory_bytes"] == pytest.approx((30 * 10 + 20 * 30) / 40, abs=1)


def test_a_disturbance_of_any_attempt_is_one_of_the_run():
    figures = over_attempts(
        [attempt(timing_untrusted=("a",)), attempt(timing_untrusted=("b", "a"))]
    )
    assert figures["timing_untrusted"] == ["a", "b"]


def plan(size, checkpointing=False):
    return AttemptPlan(BatchPlan(size, 64), checkpointing)


def test_halving_goes_down_to_single_examples_and_then_gives_up():
    sizes, now = [], plan(64)
    while now is not None:
        sizes.append(now.batch.per_device_train_batch_size)
        assert now.batch.effective_batch_size == 64
        now = after_out_of_memory(OnOom.halve, now)
    assert sizes == [64, 32, 16, 8, 4, 2, 1]


def test_checkpointing_comes_before_halving_where_it_was_asked_for():
    assert after_out_of_memory(OnOom.checkpoint_then_halve, plan(64)) == plan(64, True)
    assert after_out_of_memory(OnOom.checkpoint_then_halve, plan(64, True)) == plan(32, True)
    assert after_out_of_memory(OnOom.record, plan(64)) is None


def test_an_attempt_whose_supervisor_died_is_told_by_its_files(tmp_path):
    first = attempt(100.0)
    running = Running(
        attempts=(first,),
        attempt_started_at="2026-11-24T00:00:00Z",
        per_device_train_batch_size=16,
        gradient_accumulation_steps=4,
        gradient_checkpointing=False,
    )
    write_running(tmp_path, running)
    rows = [
        {"time_s": 50.0, "attempt": 1, "phase": "train", "memory_bytes": 10**6},
        {"time_s": 110.0, "attempt": 2, "phase": "load", "memory_bytes": 99},
        {"time_s": 120.0, "attempt": 2, "phase": "train", "memory_bytes": 7, "energy_j": 3.0},
        {"time_s": 130.0, "attempt": 2, "phase": "train", "memory_bytes": 5, "energy_j": 4.0},
    ]
    for row in rows:
        append_jsonl(tmp_path / "memory.jsonl", row)
    with (tmp_path / "memory.jsonl").open("a") as stream:
        stream.write('{"time_s": 999, "att')  # torn by the kill
    before, lost = earlier_attempts(tmp_path)
    assert before == first
    assert lost.status == "killed"
    assert lost.duration_s == pytest.approx(30.0)
    assert (lost.peak_memory_bytes, lost.mean_memory_bytes) == (7, 6)
    assert lost.energy_j == 4.0


def test_a_line_after_a_torn_one_is_whole(tmp_path):
    path = tmp_path / "memory.jsonl"
    path.write_text('{"a": 1}\n{"torn')
    append_jsonl(path, {"b": 2})
    assert json.loads(path.read_text().splitlines()[-1]) == {"b": 2}


def test_the_parts_of_a_step_are_the_time_between_its_marks():
    clock = StepClock(torch.device("cpu"))
    clock.begin()
    for part in (*PARTS, "forward_s"):
        clock.lap(part)
    seconds = clock.seconds(clock.end())
    assert seconds.keys() == {"duration_s", *PARTS}
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds[part] for part in PARTS) <= seconds["duration_s"]
    clock.begin()
    assert sum(clock.seconds(clock.end())[part] for part in PARTS) == 0
