"""The recipes in conf/experiment: each number arrives; a batch that is named goes before theirs."""

import pytest

from batchopt.errors import RequestError
from batchopt.request import optimizers
from batchopt.request.compose import compose_run
from batchopt.request.config import Adapter, Precision, Quantization
from batchopt.request.sweep import compose_sweep

FILE = "data.train_file=x.csv"
LLM = ["+experiment=llm_qlora", FILE, "model.name_or_path=some/model"]


@pytest.fixture(autouse=True)
def everything_is_installed(monkeypatch):
    monkeypatch.setattr(optimizers, "installed", lambda _: True)


def test_dialogsum_ko_is_the_whole_recipe():
    request = compose_run(["+experiment=dialogsum_ko", FILE])
    config = request.config
    assert str(request.plan) == "16 x 4"
    assert config.model.name_or_path == "digit82/kobart-summarization"
    assert config.model.extra_tokens == "auto"
    assert config.adapter.kind is Adapter.none
    training = config.training
    assert (training.num_train_epochs, training.learning_rate) == (5, 7e-5)
    assert training.lr_scheduler_type == "cosine_with_restarts"
    assert (training.warmup_steps, training.weight_decay) == (0.02, 0.001)
    assert (training.arguments.adam_beta2, training.max_grad_norm) == (0.95, 0.3)
    assert (training.precision, training.arguments.tf32) == (Precision.bf16, True)
    assert training.early_stopping_patience == 12
    generation = config.generation
    assert (generation.num_beams, generation.min_length) == (10, 28)
    assert (generation.length_penalty, generation.no_repeat_ngram_size) == (0.75, 3)
    assert config.data.max_target_length == 220


def test_its_adapter_waits_for_the_word():
    config = compose_run(["+experiment=dialogsum_ko", FILE, "adapter=qlora"]).config
    adapter = config.adapter
    assert (adapter.kind, adapter.quantization) == (Adapter.qlora, Quantization.nf4)
    assert (adapter.rank, adapter.alpha, adapter.dropout) == (144, 288, 0.02)


def test_llm_qlora_takes_one_example_at_a_time():
    request = compose_run(LLM)
    assert (request.preset, str(request.plan)) == ("1x64", "1 x 64")
    adapter, training = request.config.adapter, request.config.training
    assert (adapter.kind, adapter.base_dtype) == (Adapter.qlora, Precision.bf16)
    assert training.gradient_checkpointing
    assert training.optimizer == "paged_adamw_8bit"


@pytest.mark.parametrize("words", [["+experiment=dialogsum_ko", FILE], LLM], ids=["ko", "llm"])
def test_the_presets_stay_what_they_are(words):
    sweep = compose_sweep([*words, "batch=05a,05b,05c"])
    assert [str(job.request.plan) for job in sweep.jobs] == ["8 x 8", "16 x 4", "64 x 1"]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["+experiment=dialogsum_ko"], "data.train_file must be given"),
        (["+experiment=llm_qlora", FILE], "model.name_or_path must be given"),
    ],
)
def test_what_a_recipe_cannot_know_is_asked_for(words, missing):
    with pytest.raises(RequestError, match=missing):
        compose_run(words)
