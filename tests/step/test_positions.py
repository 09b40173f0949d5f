"""What a step computes, counted: a regression of speed shows here, whatever the machine does."""

from collections import Counter

import pytest

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.request.config import PADDED, Packing
from batchopt.step import loss
from batchopt.step.batches import StepCollator
from batchopt.step.loss import micro_batch_loss
from batchopt.verify.proof import prepare

PRESETS = [BatchPlan(8, 8), BatchPlan(16, 4), BatchPlan(64, 1)]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Three steps of the sample as it comes, and a model whose width does not matter here."""
    words = ["data.train_examples=192", "data.validation_examples=4", "device.kind=cpu"]
    words += ["model.d_model=16", "model.layers=1", f"cache_dir={tmp_path_factory.mktemp('cache')}"]
    return prepare(compose_run(words), steps=3)


@pytest.fixture
def computed(setting, monkeypatch):
    """Trains the steps; returns positions and calls by part, and the steps."""
    model = setting.model
    counts = Counter()

    def counted(states, *rest):
        counts["head"] += len(states)
        return sliced(states, *rest)

    sliced = loss.sliced_loss_sum
    monkeypatch.setattr(loss, "sliced_loss_sum", counted)
    hooks = [
        part.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: counts.update(
                {name: kwargs["input_ids"].numel(), f"{name} calls": 1}
            ),
            with_kwargs=True,
        )
        for name, part in (("encoder", model.get_encoder()), ("decoder", model.get_decoder()))
    ]

    def train(plan, packing):
        counts.clear()
        collate = StepCollator(
            plan, packing=packing, max_tokens_per_micro_batch=None, pad_token_id=1
        )
        made = [collate(rows) for rows in setting.steps]
        for step in made:
            for batch in step["micro_batches"]:
                micro_batch_loss(model, batch, step["target_tokens"], 0.0, sliced=True).backward()
        model.zero_grad()
        return counts.copy(), made

    yield train
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("plan", PRESETS, ids=str)
@pytest.mark.parametrize("packing", PADDED)
def test_a_step_computes_its_padded_tokens_once_and_the_head_real_ones_alone(
    computed, plan, packing
):
    counts, made = computed(plan, packing)
    assert counts["encoder"] == sum(step["padded_source_tokens"] for step in made)
    assert counts["decoder"] == sum(step["padded_target_tokens"] for step in made)
    assert counts["head"] == sum(step["target_tokens"] for step in made)
    micro_batches = sum(len(step["micro_batches"]) for step in made)
    assert counts["encoder calls"] == counts["decoder calls"] == micro_batches


@pytest.mark.parametrize(
    ("plan", "packing", "most"),
    [
        # Of the tokens of the same preset in the order as drawn (docs/log.md: 0.65, 0.62, ...).
        (PRESETS[0], Packing.sorted, 0.70),
        (PRESETS[0], Packing.balanced, 0.67),
        (PRESETS[0], Packing.packed, 0.71),
        (PRESETS[1], Packing.sorted, 0.70),
        (PRESETS[1], Packing.balanced, 0.65),
        (PRESETS[1], Packing.packed, 0.67),
    ],
)
def test_planning_saves_as_much_padding_as_it_did(computed, plan, packing, most):
    def tokens(packing):
        counts, _ = computed(plan, packing)
        return counts["encoder"] + counts["decoder"]

    assert tokens(packing) <= most * tokens(Packing.none)
