"""The gradient of a step is the same however it is cut; the stock Trainer's is not."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import PADDED, Packing
from batchopt.step.architecture import ENCODER_DECODER, IGNORED
from batchopt.step.batches import StepCollator, StepSampler
from batchopt.step.loss import target_loss_sum

PLANS = [BatchPlan(8, 64), BatchPlan(16, 64), BatchPlan(64, 64)]


def tiny_bart():
    torch.manual_seed(0)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=50,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            dropout=0.0,
            max_position_embeddings=64,
        )
    )


def tiny_t5():
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=50,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )


def rows(count, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def tokens(longest):
        length = int(torch.randint(2, longest, (), generator=generator))
        return torch.randint(3, 50, (length,), generator=generator).tolist()

    return [{"input_ids": tokens(30), "labels": tokens(12)} for _ in range(count)]


def gradient(model, step, label_smoothing=0.0):
    """Gradient and loss of one optimizer step, as `ExactTrainer.training_step` adds them up."""
    model = copy.deepcopy(model)
    total = 0.0
    for batch in step["micro_batches"]:
        loss = target_loss_sum(
            ENCODER_DECODER.logits(model, batch), batch["labels"], label_smoothing
        )
        loss = loss / step["target_tokens"]
        loss.backward()
        total += loss.item()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), total


def cut(plan, packing, examples):
    collator = StepCollator(plan, packing=packing, max_tokens_per_micro_batch=None, pad_token_id=1)
    return collator(examples)


@pytest.mark.parametrize("build", [tiny_bart, tiny_t5])
@pytest.mark.parametrize("count", [64, 37])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_every_cut_of_a_step_has_the_same_gradient(build, count, label_smoothing):
    model, examples = build(), rows(count)
    whole, loss = gradient(model, cut(PLANS[-1], Packing.none, examples), label_smoothing)
    for plan in PLANS:
        for packing in PADDED:
            part, part_loss = gradient(model, cut(plan, packing, examples), label_smoothing)
            assert torch.linalg.norm(part - whole) < 1e-5 * torch.linalg.norm(whole)
            assert part_loss == pytest.approx(loss, rel=1e-5)


def test_the_loss_of_a_whole_step_is_the_mean_over_its_target_tokens():
    model = tiny_bart()
    step = cut(PLANS[-1], Packing.none, rows(64))
    (batch,) = step["micro_batches"]
    _, ours = gradient(model, step)
    assert ours == pytest.approx(model(**batch).loss.item(), rel=1e-6)


def test_a_mean_of_micro_batch_means_would_be_noticed():
    """The repair that people use first: without it this suite would prove nothing."""
    model = tiny_bart()
    examples = rows(64)
    whole, _ = gradient(model, cut(PLANS[-1], Packing.none, examples))
    step = cut(PLANS[0], Packing.none, examples)
    model = copy.deepcopy(model)
    for batch in step["micro_batches"]:
        (model(**batch).loss / len(step["micro_batches"])).backward()
    means = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.linalg.norm(means - whole) > 1e-3 * torch.linalg.norm(whole)


def test_label_smoothing_is_the_one_of_transformers():
    from transformers.modeling_outputs import Seq2SeqLMOutput
    from transformers.trainer_pt_utils import LabelSmoother

    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    labels[0, 4:] = IGNORED
    theirs = LabelSmoother(epsilon=0.2)(Seq2SeqLMOutput(logits=logits), labels)
    ours = target_loss_sum(logits, labels, 0.2) / (labels != IGNORED).sum()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


@given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_every_example_is_in_exactly_one_step_of_an_epoch(examples, effective, seed, epoch):
    sampler = StepSampler(examples, effective_batch_size=effective, seed=seed)
    sampler.set_epoch(epoch)
    steps = list(sampler)
    assert sorted(index for step in steps for index in step) == list(range(examples))
    assert len(steps) == len(sampler)
    assert all(len(step) == effective for step in steps[:-1])
    assert steps == list(sampler)


def test_seeds_and_epochs_draw_different_orders():
    def order(seed, epoch):
        sampler = StepSampler(64, effective_batch_size=64, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(next(iter(sampler)))

    # (seed 1, epoch 1) and (seed 2, epoch 0) must not be the same order, as with seed + epoch.
    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
