"""per device x accumulation = effective, whatever of the three is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchopt.errors import RequestError
from batchopt.request.batch_plan import BatchPlan, divisor_pairs, plan_batch
from batchopt.request.config import BatchConfig

PER_DEVICE = "batch.per_device_train_batch_size"
ACCUMULATION = "batch.gradient_accumulation_steps"


def batch(per_device, accumulation, effective=64):
    return BatchConfig(
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        effective_batch_size=effective,
    )


@pytest.mark.parametrize(
    ("composed", "named", "expected"),
    [
        (batch(16, 4), {}, BatchPlan(16, 64)),
        (batch(64, 1), {ACCUMULATION}, BatchPlan(64, 64)),
        (batch(32, 1), {PER_DEVICE}, BatchPlan(32, 64)),
        (batch(16, 2), {ACCUMULATION}, BatchPlan(32, 64)),
        (batch(16, 4, 128), {"batch.effective_batch_size"}, BatchPlan(16, 128)),
        (batch(None, 4), {}, BatchPlan(16, 64)),
        (batch(8, None), {}, BatchPlan(8, 64)),
    ],
)
def test_the_named_key_holds_and_the_other_follows(composed, named, expected):
    assert plan_batch(composed, named) == expected


@pytest.mark.parametrize(
    ("composed", "named", "words"),
    [
        (batch(7, 4), {PER_DEVICE}, [f"{PER_DEVICE} (7)", "8 x 8", "64 x 1"]),
        (batch(16, 5), {ACCUMULATION}, [f"{ACCUMULATION} (5)", "16 x 4"]),
        (batch(8, 4), {PER_DEVICE, ACCUMULATION}, ["8 x 4 = 32", "name only one"]),
        (batch(None, None), {}, ["both null"]),
        (batch(128, None), {}, ["128", "64 x 1"]),
    ],
)
def test_what_cannot_reach_the_effective_batch_is_refused_in_one_line(composed, named, words):
    with pytest.raises(RequestError) as refusal:
        plan_batch(composed, named)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(word in message for word in words)


@given(st.integers(1, 500))
def test_divisor_pairs_are_all_and_only_the_plans_with_that_product(effective):
    pairs = divisor_pairs(effective)
    assert {plan.effective_batch_size for plan in pairs} == {effective}
    assert len(set(pairs)) == sum(effective % size == 0 for size in range(1, effective + 1))
