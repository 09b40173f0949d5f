"""Evaluation on a device that is not the CPU: greedy and beam search find the CPU's summaries."""

import contextlib

import pytest
from support.python_device import NAME, python_device
from support.python_device_run import train


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("loss", ["sliced", "full"])
def test_loss_and_summaries_are_the_cpus(beams, loss, tmp_path, cache):
    words = [f"metric.num_beams={beams}", f"training.loss={loss}", "device.kind=cpu"]
    trained, _ = train(tmp_path / "run", cache, *words, "training.learning_rate=1e-2")
    here = trained.evaluator.evaluate(trained.model, contextlib.nullcontext)
    with python_device():
        there = trained.evaluator.evaluate(trained.model.to(NAME), contextlib.nullcontext)
    assert there.eval_loss == pytest.approx(here.eval_loss, rel=1e-6)
    assert there.predictions == here.predictions
    assert any(row["prediction"] for row in here.predictions)
