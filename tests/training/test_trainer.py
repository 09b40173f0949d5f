"""The same training whatever the preset, packing, workers, checkpoints and interruptions."""

import time

import pytest
import torch

from batchopt.evaluation.evaluator import Evaluator
from batchopt.record.files import read_jsonl
from batchopt.request.compose import compose_run
from batchopt.training.build import build_trainer
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events

SMALL = [
    *("data.train_examples=160", "data.validation_examples=12", "data.max_target_length=24"),
    *("model.d_model=16", "model.ffn_dim=32", "model.layers=1", "device.kind=cpu"),
    *("training.max_steps=7", "training.logging_steps=1", "training.warmup_steps=2"),
    *("training.eval_steps=100", "training.save_checkpoints=false", "data.language=en"),
]
"""Seven steps of 64, 64, 32, 64, 64, 32 and 64 examples."""


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """The losses of 64 x 1, as drawn."""
    folder = tmp_path_factory.mktemp("whole")
    words = [*SMALL, f"cache_dir={cache}", "batch=05c", "batch.packing=none"]
    recorder = Recorder(folder, Events(None), time.monotonic())
    request = compose_run(words)
    trainer, _ = build_trainer(request, request.plan, recorder)
    trainer.train()
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["kind"] == "train"]
    return {row["step"]: row["train_loss"] for row in rows}


@pytest.mark.parametrize("preset", ["05a", "05b", "05c"])
@pytest.mark.parametrize("packing", ["none", "sorted", "balanced", "packed"])
def test_every_preset_and_packing_is_the_same_training(train, whole, preset, packing):
    _, losses = train(f"batch={preset}", f"batch.packing={packing}")
    assert len(losses) == 7
    assert losses == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["training.dataloader_num_workers=2"],
        ["training.gradient_checkpointing=true"],
        ["batch.packing=packed", "batch.max_tokens_per_micro_batch=700"],
    ],
)
def test_what_only_costs_or_saves_does_not_change_the_training(train, whole, words):
    _, losses = train("batch=05a", *words)
    assert losses == pytest.approx(whole, rel=1e-4)


def test_label_smoothing_is_the_same_for_every_preset(train):
    _, pieces = train("batch=05a", "training.label_smoothing=0.1", name="pieces")
    _, whole = train("batch=05c", "training.label_smoothing=0.1", name="whole")
    assert pieces == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("packing", ["sorted", "packed"])
def test_a_run_resumes_bit_identically_in_the_middle_of_an_epoch(train, packing):
    words = [
        *("batch=05a", f"batch.packing={packing}", "model.dropout=0.1"),
        *("training.save_checkpoints=true", "training.eval_steps=5"),
    ]
    first, losses = train(*words, name="undisturbed")
    checkpoint = first.recorder.run_dir / "checkpoints" / "checkpoint-5"
    resumed, rest = train(*words, name="resumed", resume_from=str(checkpoint))
    assert rest == {step: losses[step] for step in (6, 7)}
    pairs = zip(first.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_number_of_micro_batches_may_differ_from_step_to_step(train):
    trainer, _ = train("batch=05a", "batch.packing=packed")
    counts = {step.micro_batches for step in trainer.recorder.steps}
    assert len(counts) > 1
    assert trainer.recorder.metrics()["gradient_noise_scale"] is not None


def test_each_prediction_belongs_to_its_example(train):
    """Batches are sorted by length; a prediction in the wrong row would be a wrong score."""
    trainer, _ = train("training.max_steps=1")
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
    assert [row["id"] for row in together.predictions] == [row["id"] for row in many.rows]
    assert together.eval_loss == pytest.approx(alone.eval_loss, rel=1e-5)
    same = [
        a["prediction"] == b["prediction"]
        for a, b in zip(together.predictions, alone.predictions, strict=True)
    ]
    assert sum(same) >= len(same) - 1, "at most a tie of two tokens may fall otherwise"


def test_the_last_step_is_evaluated_wherever_it_falls(train):
    trainer, _ = train("training.eval_steps=3")
    assert [row["step"] for row in trainer.recorder.evaluations] == [0, 3, 6, 7]


def test_early_stopping_ends_a_run_that_no_longer_gets_better(train):
    trainer, losses = train(
        *("training.eval_steps=1", "training.early_stopping_patience=2", "training.max_steps=40"),
        "training.learning_rate=1e-9",
    )
    assert max(losses) < 40
    assert len(trainer.recorder.evaluations) < 40
