"""The constraints beside the fields: held for every value, and shown where keys are listed."""

import dataclasses
from operator import attrgetter

import pytest

from batchopt.errors import RequestError
from batchopt.request import help
from batchopt.request.compose import compose_run
from batchopt.request.constraints import constraint_of
from batchopt.request.optimizers import SCHEDULES
from batchopt.request.rules import check
from batchopt.request.sections import SECTIONS


def every_constraint():
    for section in SECTIONS:
        for item in dataclasses.fields(section.schema):
            if constraint_of(item):
                yield section, item


@pytest.mark.parametrize(
    ("section", "item"), [pytest.param(*one, id=one[1].name) for one in every_constraint()]
)
def test_a_value_outside_a_constraint_is_refused_with_its_key(section, item):
    words = {
        "files": ["data=files", "data.train_file=x"],
        "hub": ["data=hub", "data.name=x"],
        "pretrained": ["model=bart"],
        "tiny_causal": ["model=tiny_causal"],
    }
    config = compose_run(words.get(section.choice, [])).config
    values = attrgetter(section.group)(config) if section.group else config
    wrong = {
        **{"lr_scheduler_type": "step", "retry": ["missing", "never"]},
        **{"name_or_path": "", "cache_dir": "", "separator": "", "encoding": ""},
        **{"train_file": [], "validation_file": [], "optimizer": "adam"},
        "prompt_template": "without a place for the dialogue",
    }.get(item.name, -1)
    setattr(values, item.name, wrong)
    key = f"{section.group}.{item.name}" if section.group else item.name
    with pytest.raises(RequestError) as refusal:
        check(config)
    assert str(refusal.value).startswith(f"{key} is ")
    assert str(refusal.value).endswith(f"; it must be {constraint_of(item).text}")


def test_null_and_the_defaults_fulfil_every_constraint():
    check(compose_run([]).config)
    check(compose_run(["training.max_steps=null", "run.timeout_min=null"]).config)


def test_help_shows_each_constraint_after_the_text_of_its_key():
    lines = " ".join(help.help_text().split())
    assert (
        "Dropout of hidden states and attention. Must be from 0 up to, not including, 1." in lines
    )
    assert f"follow rouge_f1. Must be one of {', '.join(SCHEDULES)[:20]}" in lines
    assert "longer dialogues are cut at the end, and counted. Must be 8 or more." in lines


def test_each_section_is_listed_once_with_every_key():
    keys = [key.name for section in SECTIONS for key in help.keys_of(section)]
    for expected in ("seed", "batch.packing", "data.train_file", "run.grace_s", "sweep.retry"):
        assert expected in keys
    assert not {"batch", "data", "data.source", "run"} & set(keys)
