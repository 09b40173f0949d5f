"""`batchopt.verify` proves that the presets agree, and would notice if they did not."""

import json
import sys

import pytest
from support.processes import run_to_end

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.request.config import PADDED, Packing
from batchopt.request.presets import compose_presets
from batchopt.step import batches, loss
from batchopt.verify import proof, stock_trainer

SMALL = ["data.train_examples=160", "data.validation_examples=4", "model.d_model=16"]
PRESETS = {"05a": BatchPlan(8, 64), "05b": BatchPlan(16, 64), "05c": BatchPlan(64, 64)}


@pytest.fixture(scope="module")
def setting(cache):
    request = compose_run([*SMALL, f"cache_dir={cache}", "device.kind=cpu"])
    return proof.prepare(request, steps=3)


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory, setting):
    """A folder as save_pretrained writes it: a T5 with fresh weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    tokenizer = setting.tokenizer
    T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_every_preset_and_packing_passes_the_smaller_last_step_included(setting):
    assert [len(rows) for rows in setting.steps] == [64, 64, 32]
    checks = proof.verify(setting, PRESETS, PADDED)
    assert len(checks) == 12
    assert all(check.passed for check in checks), checks
    assert max(check.weight_difference for check in checks) < 1e-3
    assert {check.micro_batches for check in checks if check.preset == "05c"} == {1}


def test_the_stock_trainer_is_as_wrong_as_it_was_found_to_be(setting):
    """If this fails, transformers has mended it: say so in the docs and rejoice."""
    exact = stock_trainer.exact_gradient(setting, PRESETS)
    rows = {
        name: stock_trainer.stock_trainer(setting, name, plan, exact)
        for name, plan in PRESETS.items()
    }
    assert rows["05a"].gradient_ratio == pytest.approx(8, rel=0.05)
    assert rows["05b"].gradient_ratio == pytest.approx(4, rel=0.05)
    assert rows["05c"].gradient_ratio == pytest.approx(1, rel=1e-4)
    assert rows["05c"].gradient_difference < 1e-4
    assert rows["05a"].gradient_difference > 1e-3


def test_a_wrong_normalisation_does_not_pass(setting, monkeypatch):
    """A collator that forgets one target token in a thousand is noticed."""
    exact = batches.StepCollator.__call__

    def off(self, rows):
        step = exact(self, rows)
        if len(step["micro_batches"]) > 1:
            step["target_tokens"] = int(step["target_tokens"] * 0.999)
        return step

    monkeypatch.setattr(batches.StepCollator, "__call__", off)
    checks = proof.verify(setting, PRESETS, [Packing.sorted])
    assert [check.passed for check in checks] == [False, False, True]


def test_a_loss_in_slices_that_were_wrong_does_not_pass(setting, monkeypatch):
    exact = loss.sliced_loss_sum
    monkeypatch.setattr(loss, "sliced_loss_sum", lambda states, *rest: exact(1.001 * states, *rest))
    checks = proof.verify(setting, PRESETS, [Packing.sorted])
    assert [check.passed for check in checks] == [False, False, False]


def test_the_presets_keep_the_other_overrides():
    plans = compose_presets(["batch=05a", "batch.effective_batch_size=128", "seed=3"]).plans
    assert {name: str(plan) for name, plan in plans.items()} == {
        "05a": "8 x 16",
        "05b": "16 x 8",
        "05c": "64 x 2",
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_command_passes_on_a_t5_from_a_folder(tiny_t5, cache, tmp_path, smoothing):
    words = [
        *(sys.executable, "-m", "batchopt.verify", "--steps", "1", "--json", "out.json"),
        *("model=pretrained", f"model.name_or_path={tiny_t5}", f"cache_dir={cache}"),
        *("data.train_examples=64", "data.validation_examples=4", "device.kind=cpu"),
        f"training.label_smoothing={smoothing}",
    ]
    done = run_to_end(words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert all(check["passed"] for check in found["checks"])
    packings = {check["packing"] for check in found["checks"]}
    assert packings == {packing.value for packing in PADDED}, "it has an encoder"
    assert len(found["stock"]) == 3
    assert "the stock Trainer of transformers" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--steps", "0"], "--steps is 0"), (["--stps"], "--stps"), (["batch=05d"], "05a, 05b")],
)
def test_a_wrong_request_is_one_line(words, expected, tmp_path):
    done = run_to_end([sys.executable, "-m", "batchopt.verify", *words], cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert expected in line
