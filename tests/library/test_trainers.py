"""The stock Trainer with an exact loss, planned micro-batches, and a batch that survives an OOM."""

import copy
import inspect
import logging

import pytest
import torch
from accelerate.utils import find_executable_batch_size
from support import somebodys
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from batchopt import BatchPlan, ExactSeq2SeqTrainer, KeepEffectiveBatch
from batchopt.library import exact_trainer, find_batch
from batchopt.request.config import Packing
from batchopt.step.batches import StepCollator, StepSampler
from batchopt.step.loss import micro_batch_loss

KINDS = sorted(somebodys.MODELS)
STEPS = 5
"""Of 160 examples: 64, 64, 32, 64 and 64."""


class Surviving(KeepEffectiveBatch, Seq2SeqTrainer):
    """The line that a script of somebody needs."""


class Both(KeepEffectiveBatch, ExactSeq2SeqTrainer):
    """And with planned micro-batches."""


class Seen(TrainerCallback):
    """Keeps the gradient of each step."""

    def __init__(self):
        self.gradients = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parts = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
        self.gradients.append(torch.cat(parts).clone())


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def make(tmp_path):
    """Makes a Trainer on 160 rows, dropout off."""

    def trainer(cls, kind, size=8, accumulation=8, *, model=None, more=None, **kwargs):
        model = somebodys.MODELS[kind]() if model is None else model
        arguments = {
            "max_steps": STEPS,
            # Adam would turn rounding errors of tiny gradients into whole steps.
            "optim": "sgd",
            "learning_rate": 0.5,
            "logging_steps": 1,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
        }
        return cls(
            model=model,
            args=Seq2SeqTrainingArguments(
                str(tmp_path / "out"),
                per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation,
                **(arguments | (more or {})),
            ),
            train_dataset=somebodys.rows(kind, 160),
            eval_dataset=somebodys.rows(kind, 8),
            data_collator=DataCollatorForSeq2Seq(somebodys.tokenizer(), model=model),
            **kwargs,
        )

    return trainer


def losses(trainer):
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def forbid(model, most, *, after=0, where="forward"):
    """Has the model run out of memory with more examples at a time than `most`.

    The first `after` calls go well, so it happens in the middle of a step; `where` is forward or
    backward, where part of the gradient is there already.
    """
    forward, sizes = model.forward, []

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits):
            return logits.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise torch.OutOfMemoryError("CUDA out of memory. In backward")

    def limited(**inputs):
        sizes.append(len(inputs["input_ids"]))
        fails = sizes[-1] > most and len(sizes) > after
        if fails and where == "forward":
            raise torch.OutOfMemoryError(f"CUDA out of memory. {sizes[-1]} are too many")
        output = forward(**inputs)
        if fails:
            # The gradient of the head is there before that of the rest fails.
            name = "encoder_last_hidden_state" if "encoder_last_hidden_state" in output else None
            if name is None:
                output.logits = Fails.apply(output.logits)
                output.loss = output.loss and Fails.apply(output.loss)
            else:
                output.logits = output.logits + 0 * Fails.apply(output[name]).sum()
        return output

    limited.__signature__ = inspect.signature(forward)
    model.forward = limited
    return sizes


@pytest.mark.parametrize("packing", ["none", "sorted", "balanced"])
def test_every_pair_and_packing_is_the_same_training(make, kind, packing):
    whole = losses(make(ExactSeq2SeqTrainer, kind, 64, 1, packing="none"))
    assert len(whole) == STEPS
    for size, accumulation in ((8, 8), (16, 4)):
        trainer = make(ExactSeq2SeqTrainer, kind, size, accumulation, packing=packing)
        assert losses(trainer) == pytest.approx(whole, rel=1e-5)


def test_the_gradient_is_that_of_verifys_exact_step(make):
    """The step in one piece, by the function that verify compares with."""
    seen, model = Seen(), somebodys.bart()
    whole = copy.deepcopy(model)
    make(ExactSeq2SeqTrainer, "bart", model=model, callbacks=[seen], more={"max_steps": 1}).train()
    rows = somebodys.rows("bart", 160)
    drawn = next(iter(StepSampler(160, effective_batch_size=64, seed=42)))
    step = StepCollator(
        BatchPlan(64, 64), packing=Packing.none, max_tokens_per_micro_batch=None, pad_token_id=1
    )([rows[index] for index in drawn])
    (batch,) = step["micro_batches"]
    micro_batch_loss(whole, batch, step["target_tokens"]).backward()
    exact = torch.cat([one.grad.flatten() for one in whole.parameters() if one.grad is not None])
    apart = (seen.gradients[0] / seen.gradients[0].norm() - exact / exact.norm()).abs().max()
    assert float(apart) < 1e-6
    norm = min(1.0, float(exact.norm()))  # the Trainer has clipped it
    assert float(seen.gradients[0].norm()) == pytest.approx(norm, rel=1e-5)


def test_the_stock_trainer_is_another_training_at_8_x_8(make):
    """What the one line is for; of decoder-only models the stock loss is exact as it is."""
    stock = losses(make(Seq2SeqTrainer, "bart", 8, 8))
    exact = losses(make(ExactSeq2SeqTrainer, "bart", 8, 8))
    assert stock[0] == pytest.approx(8 * exact[0], rel=0.1)


def test_sorting_saves_padding_and_keeps_the_examples_of_each_step(make, kind):
    tokens = {}
    for packing in ("none", "sorted"):
        trainer = make(ExactSeq2SeqTrainer, kind, packing=packing)
        batches = list(trainer.get_train_dataloader())
        assert len(batches) == len(trainer.get_train_dataloader()) == 20
        assert sum(len(batch["input_ids"]) for batch in batches) == 160
        tokens[packing] = sum(batch["input_ids"].numel() for batch in batches)
    assert tokens["sorted"] < 0.8 * tokens["none"]


def test_label_smoothing_reaches_the_loss(make, kind):
    more = {"label_smoothing_factor": 0.1}
    whole = losses(make(ExactSeq2SeqTrainer, kind, 64, 1, more=more))
    pieces = losses(make(ExactSeq2SeqTrainer, kind, 8, 8, more=more))
    assert pieces == pytest.approx(whole, rel=1e-5)
    # The untrained model predicts all words alike, and smoothing shows as it learns.
    assert whole[-1] != pytest.approx(losses(make(ExactSeq2SeqTrainer, kind, 64, 1))[-1], rel=1e-5)


def test_evaluation_callbacks_and_the_columns_of_others_stay(make, kind):
    heard = []

    class Hears(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            heard.append(metrics)

    trainer = make(
        ExactSeq2SeqTrainer,
        kind,
        callbacks=[Hears()],
        compute_metrics=lambda _: {"mine": 1.0},
        more={"eval_strategy": "steps", "eval_steps": 2},
    )
    trainer.train_dataset = [row | {"id": "a"} for row in trainer.train_dataset]
    trainer.train()
    assert len(heard) >= 2
    assert {"eval_loss", "eval_mine"} <= heard[0].keys()


@pytest.mark.parametrize("cls", [ExactSeq2SeqTrainer, Both])
def test_a_training_resumes_in_the_middle_of_an_epoch(make, kind, cls, tmp_path):
    more = {"save_strategy": "steps", "save_steps": 4}
    undisturbed = losses(make(cls, kind, more=more))
    resumed = make(cls, kind, more=more)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    last = [row["loss"] for row in resumed.state.log_history if "loss" in row][-1]
    assert last == undisturbed[-1]


@pytest.mark.parametrize(
    ("more", "packing", "said"),
    [
        ({}, "packed", "packing is packed"),
        ({"train_sampling_strategy": "group_by_length"}, "sorted", "group_by_length"),
        ({"dataloader_drop_last": True}, "sorted", "dataloader_drop_last"),
    ],
)
def test_what_would_be_another_training_is_refused(make, more, packing, said):
    with pytest.raises(ValueError, match=said):
        make(ExactSeq2SeqTrainer, "bart", packing=packing, more=more).get_train_dataloader()


def test_the_order_of_the_data_is_kept_where_that_is_asked(make):
    trainer = make(
        ExactSeq2SeqTrainer,
        "bart",
        packing="none",
        more={"train_sampling_strategy": "sequential"},
    )
    first = next(iter(trainer.get_train_dataloader()))
    longest = first["input_ids"].shape[1]
    rows = [row["input_ids"] for row in trainer.train_dataset[:8]]
    assert first["input_ids"].tolist() == [row + [1] * (longest - len(row)) for row in rows]


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("cls", [Surviving, Both])
def test_training_goes_on_after_out_of_memory_as_if_nothing_had_been(
    make, kind, cls, where, caplog
):
    """It fails in the third micro-batch of the second step; both have 16 x 4 examples."""
    quiet, disturbed = Seen(), Seen()
    options = {"packing": "sorted"} if cls is Both else {}  # which keeps the size of 16
    undisturbed = losses(make(cls, kind, 16, 4, callbacks=[quiet], **options))
    model = somebodys.MODELS[kind]()
    sizes = forbid(model, 5, after=4 + 2, where=where)
    trainer = make(cls, kind, 16, 4, model=model, callbacks=[disturbed], **options)
    with caplog.at_level(logging.WARNING, "batchopt"):
        assert losses(trainer) == pytest.approx(undisturbed, rel=1e-6)
    for ours, theirs in zip(disturbed.gradients, quiet.gradients, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-6 * float(theirs.abs().max()) + 1e-8
    assert sizes[:6] == [16] * 6
    # 16, 8 and 4 are tried; the step begins anew with each, and later steps do not try again.
    assert sizes[6:8] == [16, 8]
    assert set(sizes[8:]) == {4}
    assert trainer.per_device_limit == 4
    assert trainer.state.global_step == STEPS
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "step 2 ran out of memory with 16 examples at a time" in said[0]
    assert "run again as 4 x 16" in said[1]
    assert "effective batch stays 64" in said[1]


def test_micro_batches_of_different_sizes_are_halved_too(make, caplog):
    """Balanced ones have more than 16 examples, and halves that do not divide 64."""
    undisturbed = losses(make(Both, "bart", 16, 4))
    model = somebodys.MODELS["bart"]()
    sizes = forbid(model, 10, after=4 + 2)
    trainer = make(Both, "bart", 16, 4, model=model)
    with caplog.at_level(logging.WARNING, "batchopt"):
        assert losses(trainer) == pytest.approx(undisturbed, rel=1e-6)
    assert max(sizes[:6]) > 16
    assert max(sizes[8:]) == trainer.per_device_limit < 10
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"run again with at most {trainer.per_device_limit} at a time" in said
    assert "effective batch stays 64" in said


def size_after(size):
    """What accelerate tries after a size that did not fit: nine tenths; 1.3 takes a half."""
    tried = []

    @find_executable_batch_size(starting_batch_size=size)
    def attempt(batch_size):
        tried.append(batch_size)
        if batch_size == size:
            raise RuntimeError("CUDA out of memory.")

    attempt()
    assert tried[0] == size
    assert tried[1] in (int(0.9 * size), size // 2)
    return tried[1]


def test_the_stock_answer_to_out_of_memory_loses_the_product(make, kind):
    """auto_find_batch_size: nine tenths of the size, the accumulation as it was, from the start."""
    model = somebodys.MODELS[kind]()
    forbid(model, 14, after=4 + 2)
    steps = []

    class Counts(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    trainer = make(
        Seq2SeqTrainer,
        kind,
        16,
        4,
        model=model,
        callbacks=[Counts()],
        more={"auto_find_batch_size": True},
    )
    trainer.train()
    assert trainer.state.train_batch_size == size_after(16)
    assert trainer.args.gradient_accumulation_steps == 4, "so the product is no longer 64"
    assert steps.count(0) == 2, "the first step was trained twice, on a model that it had changed"

    ours = somebodys.MODELS[kind]()
    sizes = forbid(ours, 14, after=4 + 2)
    trainer = make(Surviving, kind, 16, 4, model=ours, more={"max_steps": 2})
    trainer.train()
    assert sum(sizes[-8:]) == 64


def test_one_example_that_does_not_fit_ends_the_training(make, kind):
    model = somebodys.MODELS[kind]()
    forbid(model, 0)
    with pytest.raises(
        MemoryError, match=r"not even one example fits into memory: CUDA out of memory\. 1 are"
    ):
        make(Surviving, kind, model=model).train()


def test_another_error_is_not_run_again(make, kind):
    model = somebodys.MODELS[kind]()
    calls = []

    def broken(**inputs):
        calls.append(1)
        raise RuntimeError("a bug of theirs")

    model.forward = broken
    with pytest.raises(RuntimeError, match="a bug of theirs"):
        make(Surviving, kind, model=model, more={"remove_unused_columns": False}).train()
    assert len(calls) == 1


def test_a_loss_of_ones_own_stays(make, kind):
    def mine(outputs, labels, num_items_in_batch=None):
        return outputs.logits.float().square().mean() + 0 * outputs.logits.sum()

    trainer = make(Surviving, kind, compute_loss_func=mine)
    assert trainer.compute_loss_func is mine


@pytest.mark.parametrize(
    ("more", "said"), [({"auto_find_batch_size": True}, "auto_find_batch_size is true")]
)
def test_what_would_undo_it_is_refused(make, more, said):
    with pytest.raises(ValueError, match=said):
        make(Surviving, "bart", more=more)


def test_a_mean_of_the_micro_batch_is_refused(make):
    class Means(Surviving):
        loss_is_scaled_for_ga = False

    with pytest.raises(ValueError, match="loss_is_scaled_for_ga is false"):
        make(Means, "bart")


def test_the_wrong_order_of_bases_is_said_at_once():
    with pytest.raises(TypeError, match=r"class Wrong\(KeepEffectiveBatch, Seq2SeqTrainer\)"):

        class Wrong(Seq2SeqTrainer, KeepEffectiveBatch):
            pass


def test_a_model_without_loss_arguments_is_exact_too(make):
    """A decoder-only model of somebody's own whose forward takes no num_items_in_batch."""

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = somebodys.llama()
            self.config = self.inner.config

        def forward(self, input_ids, attention_mask=None, labels=None):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask, labels=labels)

    curves = [
        losses(make(ExactSeq2SeqTrainer, "llama", *pair, model=Own())) for pair in ((64, 1), (8, 8))
    ]
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)


def test_on_the_cpu_threads_sleep_beside_busy_neighbours(make, monkeypatch):
    """As in a run: `find_batch` times what the trainer then does."""
    watched = []
    for module in (exact_trainer, find_batch):
        monkeypatch.setattr(module, "watch_the_cores", watched.append)
    trainer = make(ExactSeq2SeqTrainer, "bart")
    assert watched == [torch.get_num_threads()]
    find_batch.find_batch(
        trainer.model,
        trainer.train_dataset,
        somebodys.tokenizer(),
        effective_batch_size=4,
        candidates=[2],
    )
    assert watched == [torch.get_num_threads()] * 2
