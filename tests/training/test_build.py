"""What a run knows before its first step: its facts, and what was added to the data."""

import json
import logging
import time
from dataclasses import asdict

import pytest
from support.pretrained import make_tokenizer, save

from batchopt.request.compose import compose_run
from batchopt.training.build import build_trainer
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events
from batchopt.verify import proof


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A run of a model like KoBART: its tokenizer adds nothing by itself."""
    folder = tmp_path_factory.mktemp("run")
    save(folder / "model", make_tokenizer(None), generation={"num_return_sequences": 4})
    rows = [{"dialogue": f"비 {n} 온다", "summary": "비가 온다 " * 9} for n in range(24)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *("data=files", f"data.train_file={folder}/train.jsonl", f"cache_dir={folder}/cache"),
        *("model=pretrained", f"model.name_or_path={folder}/model", "device.kind=cpu"),
        *("data.max_target_length=20", "metric.tokenizer=whitespace", "training.max_steps=1"),
    ]


@pytest.fixture
def built(words, tmp_path, caplog):
    request = compose_run(words)
    recorder = Recorder(tmp_path, Events(None), time.monotonic())
    with caplog.at_level(logging.INFO):
        trainer, facts = build_trainer(request, request.plan, recorder)
    return trainer, facts, caplog.text


def test_the_plan_line_says_what_was_added_and_what_is_left_out(built):
    _, _, log = built
    (line,) = [line for line in log.splitlines() if "plan: " in line]
    assert "0 of 24 summaries ended with </s>; added" in line
    assert "0 of 24 dialogues had the ends <s> … </s> that the encoder expects; added" in line
    assert "leaves out num_return_sequences=4" in line


def test_the_plan_line_says_how_large_the_micro_batches_are(built):
    _, _, log = built
    assert "balanced: the first step has 2 micro-batches of " in log


def test_the_facts_are_the_sections_of_the_record(built):
    trainer, facts, _ = built
    sections = asdict(facts)
    assert list(sections) == ["plan", "data", "model", "device", "data_fingerprint"]
    assert sections["plan"]["optimizer_steps"] == 1
    assert sections["data"]["truncated_targets"] == 24
    assert sections["model"]["parameters"] == trainer.model.num_parameters()
    assert sections["model"]["dropout"] == trainer.model.config.dropout == 0.1
    assert trainer.recorder.metrics()["rouge_tokenizer"] == "whitespace"
    assert trainer.recorder.metrics()["imports_memory_bytes"] > 0


def test_training_verification_probe_and_evaluation_see_the_same_ends(built, words):
    trainer, _, _ = built
    step = next(iter(trainer.get_train_dataloader()))
    labels = [row for batch in step["micro_batches"] for row in batch["labels"].tolist()]
    assert {[token for token in row if token >= 0][-1] for row in labels} == {2}
    assert {row["labels"][-1] for row in trainer.evaluator.rows} == {2}
    assert trainer.data_collator.architecture.longest(trainer.train_rows)["labels"][-1] == 2
    setting = proof.prepare(compose_run(words), steps=1)
    assert {row["labels"][-1] for rows in setting.steps for row in rows} == {2}
    assert {len(row["labels"]) for rows in setting.steps for row in rows} == {20}
