"""The noise scale is estimated without bias from norms of parts and wholes."""

import pytest
import torch
from torch import nn

from batchopt.step.noise_scale import EVERY, NoiseScale, gradient_norm, measured_part


def test_the_estimate_finds_a_noise_scale_that_is_known():
    """Examples with gradient G + noise: tr(S) and |G|^2 are what the generator was given."""
    torch.manual_seed(0)
    dimensions, steps = 50, 4000
    true_gradient = torch.full((dimensions,), 0.3)
    known = dimensions * 2.0**2 / float(true_gradient.square().sum())
    trace, squared = 0.0, 0.0
    for number in range(steps):
        examples = 40 + number % 25  # steps and parts of different sizes
        part = 5 + number % 11
        gradients = true_gradient + 2.0 * torch.randn(examples, dimensions)
        scale = NoiseScale()
        scale.add(
            part,
            float(gradients[:part].mean(0).norm()),
            examples,
            float(gradients.mean(0).norm()),
        )
        trace += scale._trace
        squared += scale._squared_gradient
    assert trace / squared == pytest.approx(known, rel=0.05)


def test_the_moving_average_follows_and_its_start_cancels():
    constant, one = NoiseScale(), NoiseScale()
    one.add(8, 2.0, 64, 1.5)
    for _ in range(50):
        constant.add(8, 2.0, 64, 1.5)
    assert one.examples == pytest.approx(constant.examples)


def test_there_is_no_estimate_without_steps_or_without_a_gradient():
    assert NoiseScale().examples is None
    hidden = NoiseScale()
    hidden.add(1, 8.0, 64, 0.5)
    assert hidden.examples is None


def test_a_gradient_that_overflowed_does_not_spoil_the_average():
    scale, other = NoiseScale(), NoiseScale()
    for one in (scale, other):
        one.add(8, 2.0, 64, 1.5)
    scale.add(8, float("nan"), 64, float("inf"))
    assert scale.examples == other.examples


def test_the_norm_is_that_of_all_gradients_together():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model(torch.ones(1, 3)).sum().backward()
    flat = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    assert float(gradient_norm(model)) == pytest.approx(float(flat.norm()))


def test_measured_steps_are_few_and_their_parts_take_turns():
    parts = {step: measured_part(step, 8) for step in range(41)}
    measured = {step: part for step, part in parts.items() if part is not None}
    assert [*measured] == [*range(0, 41, EVERY)]
    assert [*measured.values()] == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert [measured_part(step, 2) for step in (0, EVERY)] == [1, 1]
    assert [measured_part(step, 1) for step in range(10)] == [None] * 10
