"""`verify` on a device that is not the CPU."""

import dataclasses

import pytest
import torch
from support.python_device import NAME, python_device

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.request.config import Packing
from batchopt.verify import proof, stock_trainer

SMALL = [
    *("data.train_examples=64", "data.validation_examples=4", "model.d_model=16"),
    *("model.layers=1", "data.max_source_length=64", "data.max_target_length=16"),
]
PLANS = {"05a": BatchPlan(8, 64), "05c": BatchPlan(64, 64)}


@pytest.fixture(scope="module")
def setting(cache):
    request = compose_run([*SMALL, f"cache_dir={cache}", "device.kind=cpu"])
    return proof.prepare(request, steps=1)


def test_the_proof_and_the_stock_trainer_are_the_cpus(setting):
    here = proof.verify(setting, PLANS, [Packing.sorted])
    exact = stock_trainer.exact_gradient(setting, PLANS)
    stock = stock_trainer.stock_trainer(setting, "05a", PLANS["05a"], exact)
    with python_device():
        there = dataclasses.replace(
            setting, model=setting.model.to(NAME), device=torch.device(NAME, 0)
        )
        checks = proof.verify(there, PLANS, [Packing.sorted])
        on_device = stock_trainer.stock_trainer(there, "05a", PLANS["05a"], exact)
    assert len(checks) == len(here) == 2
    for ours, theirs in zip(checks, here, strict=True):
        assert ours.passed
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-5)
    assert on_device.gradient_ratio == pytest.approx(stock.gradient_ratio, rel=1e-4)
