"""What is measured costs every preset the same, or stands outside the timed steps."""

import pytest
import torch
from support.python_device_run import train
from torch.profiler import ProfilerActivity, profile

from batchopt.step.noise_scale import EVERY
from batchopt.training import step_times, trainer

STEPS = 7
MEASURED = len(range(0, STEPS, EVERY))
PRESETS = {"05a": 8, "05c": 1}
"""How many micro-batches a whole step has."""


def run(folder, cache, preset):
    words = (f"batch={preset}", "device.kind=cpu", f"training.max_steps={STEPS}")
    return train(folder, cache, *words, "training.eval_steps=100")[0].recorder


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_computes_one_norm_and_a_measured_one_a_second(preset, tmp_path, cache):
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        recorder = run(tmp_path / "run", cache, preset)
    counts = {row.key: row.count for row in seen.key_averages()}
    parts = MEASURED if PRESETS[preset] > 1 else 0
    assert counts["aten::_foreach_norm"] == STEPS + parts
    assert (recorder.noise_scale.examples is None) == (parts == 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_norm_of_a_part_is_no_time_of_a_step(preset, tmp_path, cache, monkeypatch):
    """On a clock by which that norm takes a million seconds."""
    took = []
    now = step_times.time.perf_counter
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: now() + sum(took))
    exact = trainer.gradient_norm

    def slow(model):
        took.append(1e6)
        return exact(model)

    monkeypatch.setattr(trainer, "gradient_norm", slow)
    recorder = run(tmp_path / "run", cache, preset)
    assert len(took) == (MEASURED if PRESETS[preset] > 1 else 0)
    assert recorder.train_time_s < 1e6
    for step in recorder.steps:
        parts = (step.data_wait_s, step.forward_s, step.backward_s, step.optimizer_s)
        assert 0 < sum(parts) <= step.duration_s < 1e6


def test_the_norm_of_the_step_is_the_one_that_the_clipping_took(tmp_path, cache, monkeypatch):
    seen = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils,
        "clip_grad_norm_",
        lambda *args, **options: seen.append(clip(*args, **options)) or seen[-1],
    )
    added = []
    monkeypatch.setattr(
        "batchopt.step.noise_scale.NoiseScale.add", lambda _, *figures: added.append(figures)
    )
    run(tmp_path / "run", cache, "05a")
    assert len(seen) == STEPS
    assert [figures[3] for figures in added] == [float(seen[step]) for step in range(0, STEPS, 5)]
    assert all(0 < part < whole for part, _, whole, _ in added)
