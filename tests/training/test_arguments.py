"""Optimizers, schedules and other arguments of transformers work, and their runs resume exactly."""

import sys
import time

import pytest
import torch
from support.processes import run_to_end

from batchopt.record.files import read_jsonl
from batchopt.request import optimizers
from batchopt.request.compose import compose_run
from batchopt.request.words import read_words
from batchopt.training.build import build_trainer
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events

SMALL = [
    *("data.train_examples=160", "data.validation_examples=4", "data.max_target_length=16"),
    "data.max_source_length=64",
    *("model.d_model=16", "model.ffn_dim=32", "model.layers=1", "device.kind=cpu"),
    *("training.max_steps=7", "training.logging_steps=1", "training.warmup_steps=2"),
    *("training.eval_steps=4", "data.language=en", "model.dropout=0.1", "batch=05c"),
    "training.keep_checkpoints=9",
]
"""Seven steps; a checkpoint after the fourth."""


@pytest.fixture
def train(tmp_path, cache):
    """Trains in this process; returns the trainer."""

    def run(*words, resume_from=None, name="run", stop_after=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        request = compose_run(read_words([*SMALL, f"cache_dir={cache}", *words]))
        recorder = Recorder(folder, Events(None), time.monotonic())
        trainer, run.facts = build_trainer(request, request.plan, recorder)
        if resume_from:
            recorder.restore(resume_from)
        if stop_after:
            seen, done = recorder.step_computed, []

            def stop(loss):
                seen(loss)
                done.append(loss)
                if len(done) == stop_after:
                    recorder.request_stop()

            recorder.step_computed = stop
        trainer.train(resume_from_checkpoint=resume_from and str(resume_from))
        return trainer

    return run


def checkpoint(trainer, step):
    return trainer.recorder.run_dir / "checkpoints" / f"checkpoint-{step}"


def losses(trainer):
    rows = read_jsonl(trainer.recorder.run_dir / "metrics.jsonl")
    return {row["step"]: row["train_loss"] for row in rows if row["kind"] == "train"}


def rates(trainer):
    return {row["step"]: row["learning_rate"] for row in trainer.state.log_history if "loss" in row}


def same_weights(one, other):
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


KWARGS = "training.arguments.lr_scheduler_kwargs"
RECIPES = {
    "adafactor": ["training.optimizer=adafactor"],
    "sgd": ["training.optimizer=sgd", "training.arguments.optim_args.momentum=0.9"],
    "rmsprop": ["training.optimizer=rmsprop", "training.arguments.optim_args.alpha=0.9"],
    "adagrad": ["training.optimizer=adagrad"],
    "beta2, restarts, a share of warm-up": [
        *("training.arguments.adam_beta2=0.95", "training.warmup_steps=0.3"),
        *("training.lr_scheduler_type=cosine_with_restarts", f"{KWARGS}.num_cycles=2"),
    ],
    "stable and decay": [
        "training.lr_scheduler_type=warmup_stable_decay",
        f"{KWARGS}={{num_decay_steps: 2, decay_type: 1-sqrt}}",
    ],
    "min_lr": ["training.lr_scheduler_type=cosine_with_min_lr", f"{KWARGS}.min_lr_rate=0.1"],
    "plateau": [
        *("training.lr_scheduler_type=reduce_lr_on_plateau", "training.eval_steps=2"),
        *(f"{KWARGS}.patience=0", f"{KWARGS}.threshold=9"),
    ],
    "greedy": [
        *("training.lr_scheduler_type=greedy", "training.eval_steps=2"),
        f"{KWARGS}={{min_lr: 1e-5, max_lr: 0.01, patience: 0}}",
    ],
    "deterministic": ["training.arguments.full_determinism=true"],
    **{
        name: [f"training.optimizer={name}"]
        for name in ("adamw_8bit", "paged_adamw_8bit", "lion", "ademamix_8bit", "rmsprop_bnb")
    },
    "stable_adamw": ["training.optimizer=stable_adamw"],
    "schedule_free_adamw": [
        *("training.optimizer=schedule_free_adamw", "training.lr_scheduler_type=constant"),
    ],
    "schedule_free_sgd": [
        *("training.optimizer=schedule_free_sgd", "training.lr_scheduler_type=constant"),
    ],
}
"""A run of each kind; those whose package is not installed are skipped."""


def skip_without_its_package(words):
    for word in words:
        key, _, name = word.partition("=")
        if key == "training.optimizer":
            for module in optimizers.OPTIMIZERS[optimizers.optimizer_name(name)].modules:
                if not optimizers.installed(module):
                    pytest.skip(f"{module} is not installed")


@pytest.fixture
def deterministic_again():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.usefixtures("deterministic_again")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_of_any_recipe_resumes_bit_identically(train, recipe):
    words = RECIPES[recipe]
    skip_without_its_package(words)
    first = train(*words, name="undisturbed")
    resumed = train(*words, name="resumed", resume_from=checkpoint(first, 4))
    undisturbed = losses(first)
    assert losses(resumed) == {step: undisturbed[step] for step in (5, 6, 7)}
    assert rates(resumed) == rates(first)
    assert same_weights(first, resumed)


@pytest.mark.parametrize("name", ["sgd", "adafactor"])
def test_another_optimizer_is_another_training(train, name):
    assert losses(train(name="adamw")) != losses(train(f"training.optimizer={name}", name=name))


def test_what_is_asked_for_reaches_the_trainer(train):
    trainer = train(*RECIPES["beta2, restarts, a share of warm-up"])
    assert trainer.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert trainer.args.get_warmup_steps(7) == 3
    full = trainer.config.training.learning_rate
    # Three steps of warm-up, then two waves over four steps.
    expected = [0, full / 3, 2 * full / 3, full, full / 2, full, full / 2]
    assert list(rates(trainer).values()) == pytest.approx(expected)


def test_the_record_has_what_differs_from_the_defaults(train):
    train(
        *RECIPES["beta2, restarts, a share of warm-up"],
        *("training.max_steps=1", "generation=beam", "generation.min_length=3"),
    )
    assert train.facts.plan.optimizer == "adamw_torch_fused"
    assert train.facts.plan.arguments == {
        "adam_beta2": 0.95,
        "lr_scheduler_kwargs": {"num_cycles": 2},
    }
    own = {"forced_eos_token_id": 2}  # as every BART has
    assert train.facts.plan.generation == {
        "settings": {"max_new_tokens": 16, "num_beams": 4, "min_length": 3, **own},
        "taken_over": [*own],
        "left_out": {},
    }


def test_a_plateau_halves_the_rate_once_for_each_evaluation_without_a_gain(train):
    trainer = train(*RECIPES["plateau"], f"{KWARGS}.factor=0.5")
    full = trainer.config.training.learning_rate
    assert trainer.lr_scheduler.mode == "max"
    # The first evaluation is the best so far; those after steps 4 and 6 gain too little.
    expected = [full, full, full, full, full / 2, full / 2, full / 4]
    assert list(rates(trainer).values()) == pytest.approx(expected)


def test_a_run_that_is_stopped_counts_no_evaluation_twice(train):
    """The Trainer asks for an evaluation when it is stopped; there is none."""
    words = [*RECIPES["plateau"], "training.eval_steps=null"]
    whole = train(*words, name="whole")
    stopped = train(*words, name="stopped", stop_after=4)
    assert stopped.state.global_step == 4
    folder = checkpoint(stopped, 4)
    resumed = train(*words, name="resumed", resume_from=folder)
    assert rates(resumed) == rates(whole)
    assert same_weights(whole, resumed)


class TwoFaced(torch.optim.SGD):
    """An optimizer that evaluates on other weights than it trains on, as schedule-free ones do."""

    trains = False

    def step(self, closure=None):
        assert self.trains
        return super().step(closure)

    def train(self):
        self.trains = True

    def eval(self):
        self.trains = False


def test_an_optimizer_of_two_faces_shows_the_right_one(train, monkeypatch):
    monkeypatch.setattr(torch.optim, "SGD", TwoFaced)
    evaluated, saved = [], []
    from batchopt.evaluation.evaluator import Evaluator
    from batchopt.training.trainer import ExactTrainer

    evaluate, save = Evaluator.evaluate, ExactTrainer._save_checkpoint
    optimizer = []
    monkeypatch.setattr(
        ExactTrainer,
        "training_step",
        lambda self, *given, _run=ExactTrainer.training_step: (
            optimizer.append(self.optimizer.optimizer) or _run(self, *given)
        ),
    )
    monkeypatch.setattr(
        Evaluator,
        "evaluate",
        lambda *given: evaluated.extend(one.trains for one in optimizer[-1:]) or evaluate(*given),
    )
    monkeypatch.setattr(
        ExactTrainer,
        "_save_checkpoint",
        lambda *given: saved.append(optimizer[-1].trains) or save(*given),
    )
    train("training.optimizer=sgd")
    assert len(optimizer) == 7
    assert evaluated == [False, False], "after steps 4 and 7"
    assert saved == [False, False]


def test_what_looks_at_the_prompt_is_refused_before_a_decoder_only_model_is_trained(
    tmp_path, cache
):
    words = ["model=tiny_causal", "data.train_examples=160", "generation.no_repeat_ngram_size=3"]
    done = run_to_end(
        [sys.executable, "-m", "batchopt.train", *words, "device.kind=cpu", f"cache_dir={cache}"],
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert (
        "generation.no_repeat_ngram_size is 3; with a decoder-only model it must be"
        in (done.stderr.splitlines()[-1])
    )
    assert not list(tmp_path.rglob("record.json"))
