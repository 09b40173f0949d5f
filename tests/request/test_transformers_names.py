"""Every name of the installed transformers has a class, and what is written of it is true."""

import copy
import dataclasses
import inspect
import typing
from collections import Counter
from importlib import metadata

import pytest
import torch
from packaging.version import Version
from transformers import GenerationConfig, Seq2SeqTrainingArguments, Trainer
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from batchopt.errors import RequestError
from batchopt.evaluation.generation import (
    OF_THE_TASK,
    TAKEN_OVER,
    TAKEN_OVER_WITH_BEAMS,
    TOKENS,
)
from batchopt.request import optimizers, transformers_names
from batchopt.request.compose import compose_run
from batchopt.request.config import GenerationSettings, TrainerArguments
from batchopt.request.rules import LOOKS_AT_PROMPT, check_for_decoder_only
from batchopt.request.words import read_words
from batchopt.training.trainer import training_arguments

FIELDS = {item.name: item for item in dataclasses.fields(Seq2SeqTrainingArguments)}
WRITTEN_FOR = Version(metadata.version("transformers")) >= Version("5.23")
"""Whether every name of the tables exists; older versions lack some and have others."""
GONE = {"adamw_apex_fused"}
"""Optimizers of older versions, which batchopt does not have."""


def test_every_argument_of_the_trainer_has_one_class():
    classed = Counter(one.name for one in transformers_names.arguments())
    assert set(FIELDS) - set(classed) == set(), "say what becomes of it: transformers_names.py"
    assert set(classed.values()) == {1}
    if WRITTEN_FOR:
        assert set(classed) - set(FIELDS) == transformers_names.OLD


def test_every_generation_setting_has_one_class():
    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    classed = Counter(one.name for one in transformers_names.generation_settings())
    assert known - set(classed) == {"transformers_version"}
    assert set(classed.values()) == {1}
    if WRITTEN_FOR:
        assert set(classed) - known == {"checkpoint"}


def test_the_settings_that_are_taken_over_are_those_that_can_be_asked_for():
    rules = {*TAKEN_OVER, *TAKEN_OVER_WITH_BEAMS, *OF_THE_TASK} - {*TOKENS}
    assert rules == {item.name for item in dataclasses.fields(GenerationSettings)} - {"checkpoint"}
    assert set(LOOKS_AT_PROMPT) < rules


@pytest.mark.parametrize("item", dataclasses.fields(TrainerArguments), ids=lambda item: item.name)
def test_an_allowed_argument_has_the_type_and_the_default_of_the_trainer(item):
    theirs = typing.get_type_hints(Seq2SeqTrainingArguments)[item.name]
    default = getattr(TrainerArguments(), item.name)
    assert (default or None) == (FIELDS[item.name].default or None)
    if item.name not in ("optim_args", "lr_scheduler_kwargs"):
        assert typing.get_type_hints(TrainerArguments)[item.name] == theirs


@pytest.mark.parametrize("key", sorted(set(transformers_names.SAME_VALUE.values())))
def test_what_means_the_same_is_a_key(key):
    value = compose_run([]).config
    for name in key.split("."):
        assert hasattr(value, name)
        value = getattr(value, name)


def test_every_optimizer_of_transformers_is_known_or_refused():
    assert {*optimizers.OPTIMIZERS, *optimizers.REFUSED_OPTIMIZERS} == {
        name.value for name in OptimizerNames if WRITTEN_FOR or name.value not in GONE
    }
    assert set(optimizers.SHORT.values()) < set(optimizers.OPTIMIZERS)


def test_every_schedule_of_transformers_is_known():
    assert set(optimizers.SCHEDULES) == {name.value for name in SchedulerType}


@pytest.mark.parametrize("name", optimizers.SCHEDULES)
def test_a_schedule_takes_what_is_listed(name):
    function = {
        "reduce_lr_on_plateau": torch.optim.lr_scheduler.ReduceLROnPlateau,
        "greedy": GreedyLR,
    }.get(name, TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)])
    counted = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "verbose"}
    taken = set(inspect.signature(function).parameters) - counted
    assert set(optimizers.SCHEDULES[name]) == taken


INSTALLED = [
    name
    for name, one in optimizers.OPTIMIZERS.items()
    if all(optimizers.installed(module) for module in one.modules)
]


@pytest.fixture(scope="module")
def request_on_cpu():
    return compose_run(["device.kind=cpu"])


@pytest.fixture
def choose(request_on_cpu, tmp_path):
    """What the installed Trainer makes of an optimizer's name and arguments."""

    def chosen(name, **arguments):
        config = copy.deepcopy(request_on_cpu.config)
        config.training.optimizer = name
        for key, value in arguments.items():
            setattr(config.training.arguments, key, value)
        args = training_arguments(config, request_on_cpu.plan, tmp_path)
        return Trainer.get_optimizer_cls_and_kwargs(args)

    return chosen


OTHER = {
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "adam_epsilon": 1e-4,
    **{"nesterov": True, "centered": True, "bf16_stochastic_round": True},
    **{"t_alpha": 7, "t_beta3": 7},
}
"""Values that differ from every default; other arguments take 0.123."""


@pytest.mark.parametrize("name", INSTALLED)
def test_an_optimizer_reads_and_takes_what_is_listed_and_nothing_else(choose, name):
    one = optimizers.OPTIMIZERS[name]
    plain = choose(name)
    for key in optimizers.ADAM:
        changed = choose(name, **{key: OTHER[key]})
        assert (changed != plain) == (key in one.reads), key
    for key, rule in one.takes.items():
        value = OTHER.get(key, 0.123)
        assert rule.holds(value)
        assert choose(name, optim_args={key: value}) != plain, key


@pytest.mark.skipif(
    Version(metadata.version("torch")) < Version("2.8"), reason="the Trainer fuses from 2.8 on"
)
def test_adamw_is_what_the_trainer_takes_by_itself():
    default = Seq2SeqTrainingArguments(output_dir="x", use_cpu=True).optim
    assert optimizers.optimizer_name(compose_run([]).config.training.optimizer) == default


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("training.arguments.optim=lion_8bit", "training.optimizer=lion_8bit"),
        ("training.arguments.label_smoothing_factor=0,0.1", "training.label_smoothing=0,0.1"),
        ("+training.arguments.warmup_ratio=0.02", "training.warmup_steps=0.02"),
        ("training.arguments.seed=1,2", "seed=1,2"),
        ("training.arguments.adam_beta2=0.9", "training.arguments.adam_beta2=0.9"),
        (
            "training.arguments.lr_scheduler_kwargs.num_cycles=3",
            "++training.arguments.lr_scheduler_kwargs.num_cycles=3",
        ),
        (
            "+training.arguments.optim_args={momentum: 0.9}",
            "++training.arguments.optim_args={momentum: 0.9}",
        ),
    ],
)
def test_a_word_of_transformers_becomes_the_word_of_batchopt(typed, read):
    assert read_words([typed]) == [read] == read_words([read])


def test_a_table_is_read_as_a_whole_and_by_its_keys():
    schedule = "training.lr_scheduler_type=cosine_with_restarts"
    key = "training.arguments.lr_scheduler_kwargs"
    for words in ([f"{key}.num_cycles=3"], [f"{key}={{num_cycles: 3}}"]):
        config = compose_run(read_words([schedule, *words])).config
        assert config.training.arguments.lr_scheduler_kwargs == {"num_cycles": 3}


def test_a_key_of_a_table_is_taken_back():
    key = "training.arguments.optim_args.momentum"
    for removal in (f"~{key}", f"~{key}=0.9"):
        words = read_words(["training.optimizer=sgd", f"{key}=0.9", removal])
        assert compose_run(words).config.training.arguments.optim_args == {}


@pytest.mark.parametrize("name", LOOKS_AT_PROMPT)
def test_what_looks_at_the_prompt_is_refused_for_a_decoder_only_model(name):
    check_for_decoder_only(GenerationSettings(num_beams=4, min_new_tokens=5))
    with pytest.raises(RequestError, match=f"generation.{name} is 2; with a decoder-only model"):
        check_for_decoder_only(GenerationSettings(**{name: 2}))
