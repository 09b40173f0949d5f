"""Counting operations costs nothing and is right; the peak is one that a training cannot pass."""

import pytest
import torch
from support.python_device import NAME, python_device
from torch.utils.flop_counter import FlopCounterMode
from transformers import BartConfig, BartForConditionalGeneration, T5Config
from transformers import T5ForConditionalGeneration as T5

from batchopt.request.config import Precision
from batchopt.step.loss import micro_batch_loss
from batchopt.training import flops
from batchopt.training.flops import count_flops, measure_peak

SMALL = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 90}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}


def bart(attention: str) -> BartForConditionalGeneration:
    config = BartConfig(**SMALL, **HEADS, encoder_layers=1, decoder_layers=1)
    config._attn_implementation = attention
    return BartForConditionalGeneration(config)


def t5() -> T5:
    return T5(
        T5Config(
            vocab_size=90, d_model=32, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    )


def micro_batch() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.ones(3, 20, dtype=torch.long),
        "attention_mask": torch.ones(3, 20, dtype=torch.long),
        "labels": torch.ones(3, 7, dtype=torch.long),
    }


@pytest.mark.parametrize("model", [bart("eager"), t5()], ids=["bart", "t5"])
def test_the_count_is_that_of_a_real_pass(model):
    with FlopCounterMode(display=False) as counter:
        micro_batch_loss(model, micro_batch(), 1, 0.0).backward()
    assert count_flops(model, micro_batch()) == counter.get_total_flops()


def test_attention_counts_whatever_computes_it():
    """torch's counter passes over the attention kernel of the CPU."""
    whole, parts = (
        count_flops(bart("sdpa"), micro_batch()),
        count_flops(bart("eager"), micro_batch()),
    )
    # The fused kernel recomputes the scores in its backward: one of seven products more.
    assert parts < whole < 1.1 * parts


def test_the_run_is_not_touched():
    model = bart("sdpa")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    count_flops(model, micro_batch())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in model.parameters())


def test_the_peak_is_measured_and_the_random_numbers_of_the_run_stay():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert measure_peak(torch.device("cpu"), Precision.fp32) > 1e8
    assert torch.equal(torch.get_rng_state(), before)


def test_on_a_gpu_its_own_clock_times_many_products_of_random_matrices(monkeypatch):
    """Launches and an idle clock, or zeros and ones, would make another peak."""
    seen = []
    mm = torch.mm

    def product(left, right, *, out):
        seen.append((left.dtype, float(left.inner.float().std()), len(device.waits)))
        return mm(left[:8, :8], right[:8, :8]) if len(seen) > 1 else mm(left, right, out=out)

    monkeypatch.setattr(flops, "WARM_UP_S", 0.0)
    monkeypatch.setattr(torch, "mm", product)
    with python_device() as device:
        assert measure_peak(torch.device(NAME), Precision.bf16) > 0
    assert len(seen) == 5 * flops.PRODUCTS
    assert {dtype for dtype, _, _ in seen} == {torch.bfloat16}
    assert all(deviation == pytest.approx(1, rel=0.01) for _, deviation, _ in seen)
    waits = [waits for _, _, waits in seen]
    assert len(set(waits)) == 5, "the host waits once for the products between two events"
    assert device.calls == ["empty_cache"]
