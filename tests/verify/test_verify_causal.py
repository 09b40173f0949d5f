"""Of decoder-only models the presets are one training, and the stock Trainer is exact as well."""

import pytest
from support.causal_models import make_causal
from support.models import data_file, plain_tokenizer, save

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.request.config import Packing
from batchopt.verify import proof, stock_trainer
from batchopt.verify.__main__ import main

PRESETS = {"8": BatchPlan(2, 8), "4": BatchPlan(4, 8), "1": BatchPlan(8, 8)}


def words(tmp_path, kind):
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", make_causal(kind, len(tokenizer)), tokenizer)
    return [
        *("model=causal", f"model.name_or_path={folder}", "data=files", "device.kind=cpu"),
        *(f"data.train_file={data_file(tmp_path)}", f"cache_dir={tmp_path}/cache"),
        *('data.prompt_template="{dialogue}="', "data.max_source_length=80"),
        *("data.max_target_length=40", "batch.effective_batch_size=8"),
    ]


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPT2", "Gemma2"])
def test_presets_and_stock_trainer_agree(kind, tmp_path):
    request = compose_run([*words(tmp_path, kind), "batch.per_device_train_batch_size=2"])
    setting = proof.prepare(request, steps=2)
    checks = proof.verify(setting, PRESETS, list(Packing))
    assert len(checks) == 15
    assert max(check.gradient_difference for check in checks) < 3e-6
    assert max(check.loss_difference for check in checks) < 1e-6
    exact = stock_trainer.exact_gradient(setting, PRESETS)
    for name, plan in PRESETS.items():
        row = stock_trainer.stock_trainer(setting, name, plan, exact)
        assert row.gradient_ratio == pytest.approx(1, abs=1e-4)
        assert row.gradient_difference < 1e-4


def test_the_command_shows_prompt_and_target(cache, capsys):
    small = ["data.train_examples=64", "data.validation_examples=4", "model.d_model=16"]
    small += ["data.max_source_length=96", "data.max_target_length=16"]
    assert not main(["--steps=1", "model=tiny_causal", *small, f"cache_dir={cache}"])
    shown = capsys.readouterr().out
    assert "the first source as the model reads it:\n<s>다음 대화를 요약하세요.\n\n" in shown
    assert shown.count("1.00 x the exact one") == 3
    assert shown.count(" unpadded ") == 3
    assert "</s>" in shown
