"""Decoder-only models from their folder to a trained step: loaded, checked, resumed, generated."""

import json
import time

import pytest
import torch
import transformers
from support.causal_models import WORDS, make_causal
from support.models import data_file, plain_tokenizer, save

from batchopt.data import tokenized
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError
from batchopt.evaluation.evaluator import Evaluator
from batchopt.record.files import read_jsonl
from batchopt.request.compose import compose_run
from batchopt.step.architecture import DECODER_ONLY
from batchopt.step.loss import micro_batch_loss
from batchopt.training.build import build_trainer, check_joined, choose_generation
from batchopt.training.flops import count_flops
from batchopt.training.model import build_model
from batchopt.training.prepare import prepare_shared
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events

SMALL = [
    *("model=tiny_causal", "model.d_model=16", "model.ffn_dim=32", "model.layers=1"),
    *("data.train_examples=160", "data.validation_examples=12", "data.max_target_length=24"),
    *("data.language=en", "data.max_source_length=256", "device.kind=cpu"),
    *("training.max_steps=7", "training.logging_steps=1", "training.warmup_steps=2"),
    *("training.eval_steps=100", "training.save_checkpoints=false"),
]


@pytest.fixture
def train(tmp_path, cache):
    """Trains in this process; returns the trainer and the loss of each step."""

    def run(*words, resume_from=None, name="run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        request = compose_run([*SMALL, f"cache_dir={cache}", *words])
        recorder = Recorder(folder, Events(None), time.monotonic())
        trainer, _ = build_trainer(request, request.plan, recorder)
        trainer.train(resume_from_checkpoint=resume_from)
        rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["kind"] == "train"]
        return trainer, {row["step"]: row["train_loss"] for row in rows}

    return run


def prepared(folder, *words):
    """Tokens, model and config of a run, as its worker has them."""
    data = data_file(folder.parent)
    config = compose_run(
        [
            *("model=causal", f"model.name_or_path={folder}", "data=files"),
            *(f"data.train_file={data}", f"cache_dir={folder.parent}/cache"),
            *('data.prompt_template="{dialogue}="', "data.max_source_length=80"),
            *("data.max_target_length=40", *words),
        ]
    ).config
    tokens = tokenized.load(tokenized.prepare(config, load_corpus(config.data)))
    return tokens, build_model(config, tokens.tokenizer), config


def folder_of(tmp_path, kind="Llama", tokenizer=None, **config):
    tokenizer = tokenizer or plain_tokenizer()
    return save(tmp_path / "model", make_causal(kind, len(tokenizer), **config), tokenizer)


def test_every_preset_is_the_same_training(train):
    _, whole = train("batch=05c", "batch.packing=none", name="whole")
    for preset, packing in (
        *(("05a", "sorted"), ("05b", "balanced"), ("05a", "packed")),
        ("05b", "unpadded"),
    ):
        trainer, losses = train(f"batch={preset}", f"batch.packing={packing}", name=packing)
        assert losses == pytest.approx(whole, rel=1e-4)
        assert trainer.sliced
        metrics = trainer.recorder.metrics()
        assert (metrics["padding_fraction"] == 0) == (packing == "unpadded")
        assert metrics["target_padding_fraction"] == 0


@pytest.mark.parametrize("packing", ["balanced", "unpadded"])
def test_a_run_resumes_bit_identically_in_the_middle_of_an_epoch(train, packing):
    words = [
        *("batch=05a", "model.dropout=0.1", f"batch.packing={packing}"),
        *("training.save_checkpoints=true", "training.eval_steps=5"),
    ]
    first, losses = train(*words, name="undisturbed")
    checkpoint = first.recorder.run_dir / "checkpoints" / "checkpoint-5"
    resumed, rest = train(*words, name="resumed", resume_from=str(checkpoint))
    assert rest == {step: losses[step] for step in (6, 7)}
    pairs = zip(first.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_every_prediction_is_that_of_its_example_alone(train):
    trainer, _ = train("batch=05c", "training.max_steps=3")
    many = trainer.evaluator
    one = Evaluator(
        many.rows,
        many.tokenizer,
        many.rouge,
        many.generation,
        batch_size=1,
        sliced=many.sliced,
    )
    together = many.evaluate(trainer.model, torch.no_grad)
    alone = one.evaluate(trainer.model, torch.no_grad)
    assert many.batch_size > 1
    assert together.eval_loss == pytest.approx(alone.eval_loss, rel=1e-5)
    assert together.predictions == alone.predictions


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("source", ["causal", "pretrained"])
def test_every_class_is_loaded_and_gets_more_tokens(kind, source, tmp_path):
    folder = folder_of(tmp_path, kind)
    words = [f"model={source}", "model.extra_tokens=['#Person1#','#Person2#']"]
    tokens, model, config = prepared(folder, *words)
    assert type(model).__name__.startswith(kind)
    assert len(model.get_input_embeddings().weight) >= len(tokens.tokenizer)
    assert len(model.get_output_embeddings().weight) >= len(tokens.tokenizer)
    rows = [tokens.train[index] for index in range(3)]
    batch = DECODER_ONLY.pad_batch(rows, tokens.tokenizer.pad_token_id)
    micro_batch_loss(model.train(), batch, 30, sliced=False).backward()
    assert all(w.grad is None or torch.isfinite(w.grad).all() for w in model.parameters())
    generation = choose_generation(config, tokens, model.eval()).config
    made = DECODER_ONLY.generate(model, rows, batch, None, generation)
    assert made.shape[1] <= 40


def test_a_model_that_reads_in_both_directions_is_refused(tmp_path):
    tokenizer = plain_tokenizer()
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    folder = save(tmp_path / "model", transformers.BertForMaskedLM(config), tokenizer)
    with pytest.raises(RequestError, match="is a bert that reads in both directions, so it cannot"):
        prepared(folder)


@pytest.mark.parametrize(
    ("kind", "refused"), [("GPT2", True), ("OPT", True), ("Llama", False), ("Bloom", False)]
)
def test_prompt_and_summary_share_the_positions(kind, refused, tmp_path, caplog):
    folder = folder_of(tmp_path, kind)
    prepared(folder, "data.max_source_length=88", "data.max_target_length=40")
    assert not [record for record in caplog.records if "positions" in record.getMessage()]
    words = ["data.max_source_length=88", "data.max_target_length=41"]
    if refused:
        with pytest.raises(RequestError) as caught:
            prepared(folder, *words)
        assert str(caught.value).startswith(
            f"data.max_source_length + data.max_target_length is 129, and {folder} has positions "
            "for 128 tokens; lower one of them"
        )
    else:
        prepared(folder, *words)
        warned = "was trained on positions up to 128" in caplog.text
        assert warned == (kind == "Llama")


def test_a_generation_ends_at_every_end_and_may_repeat_the_prompt(tmp_path):
    folder = folder_of(tmp_path)
    settings = {
        **{"eos_token_id": [5, 6], "no_repeat_ngram_size": 3, "repetition_penalty": 1.3},
        **{"forced_bos_token_id": 9, "suppress_tokens": [11]},
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    tokens, model, config = prepared(folder)
    end = tokens.summary.end_token_id
    made = choose_generation(config, tokens, model)
    assert set(made.config.eos_token_id) == {5, 6, end}
    assert end not in (5, 6)
    assert made.config.pad_token_id == tokens.tokenizer.pad_token_id
    assert set(made.left) == {"no_repeat_ngram_size", "repetition_penalty", "forced_bos_token_id"}
    assert set(made.taken) == {"suppress_tokens"}


def test_the_count_of_operations_leaves_the_head_over_the_prompt_out():
    model = make_causal("Llama", vocabulary=500)
    row = {"input_ids": [5] * 30, "labels": [6] * 9 + [2]}
    batch = DECODER_ONLY.pad_batch([row, row], 1)
    whole = count_flops(model, batch)
    targets = count_flops(model, batch, sliced=True)
    head = 3 * 2 * 16 * 500  # three products of a position
    assert whole - targets == head * 2 * 30


def test_unpadded_is_refused_by_the_worker_too_which_may_have_another_attention(tmp_path):
    _, model, config = prepared(folder_of(tmp_path, "OPT"))
    with pytest.raises(RequestError, match="packing is unpadded: opt does not keep joined rows"):
        check_joined(config, model)
    check_joined(config, make_causal("Llama"))


def test_the_attention_is_the_one_that_was_asked_for(tmp_path):
    folder = folder_of(tmp_path)
    for name in ("eager", "sdpa"):
        _, model, _ = prepared(folder, f"model.attention={name}")
        assert model.config._attn_implementation == name


def test_a_setting_that_counts_the_prompt_is_refused_before_anything_runs(cache):
    words = [*SMALL, f"cache_dir={cache}", "generation.no_repeat_ngram_size=3"]
    with pytest.raises(RequestError, match="with a decoder-only model it must be null"):
        prepare_shared([compose_run(words)])
