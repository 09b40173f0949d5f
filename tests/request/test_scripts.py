"""Those who come from a training script are told what to type here; the long names of presets."""

import re
import shlex

import pytest
from hydra._internal.utils import get_args_parser

from batchopt.errors import RequestError
from batchopt.request.compose import compose_run
from batchopt.request.scripts import refuse_script_words
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import LONG_NAMES, read_words

SETTINGS = """\
model_name_or_path: facebook/bart-base
training:
  per_device_train_batch_size: {size}
  gradient_accumulation_steps: {steps}
  learning_rate: 3e-5
  fp16: true
  bf16: false
  gradient_checkpointing: true
  output_dir: out
data:
  train_file: my data.csv
  max_source_length: 256
  label_smoothing_factor: 0.1
"""


def refusal(*words):
    with pytest.raises(RequestError) as refused:
        refuse_script_words(words)
    (line,) = str(refused.value).splitlines()
    return line


@pytest.mark.parametrize("form", ["--config FILE", "--config=FILE", "FILE", "FILE batch=05a"])
@pytest.mark.parametrize(
    ("size", "steps", "preset"), [(8, 8, "05a"), (64, 1, "05c"), (12, 4, "12x4")]
)
def test_a_file_of_settings_is_translated_and_the_words_mean_the_same(
    form, size, steps, preset, tmp_path
):
    file = tmp_path / "05.yaml"
    file.write_text(SETTINGS.format(size=size, steps=steps))
    line = refusal(*form.replace("FILE", str(file)).split())
    assert line.endswith("; without a key here: output_dir")
    typed = shlex.split(re.search(r"python -m batchopt.train (.*); without", line)[1])
    request = compose_run(read_words(typed))
    assert request.preset == preset
    assert str(request.plan) == f"{size} x {steps}"
    config = request.config
    assert config.model.name_or_path == "facebook/bart-base"
    assert config.data.train_file == "my data.csv"
    assert config.data.max_source_length == 256
    assert config.training.label_smoothing == 0.1
    assert config.training.learning_rate == 3e-5
    assert config.training.precision.value == "fp16"
    assert config.training.gradient_checkpointing


@pytest.mark.parametrize("text", [None, "", "[1, 2", "- 1", "\x00"])
def test_a_file_that_holds_no_settings_is_answered_all_the_same(text, tmp_path):
    file = tmp_path / "x.yaml"
    if text is not None:
        file.write_text(text)
    assert refusal("--config", str(file)).endswith(
        "takes words, not a file of settings; type them, as in batch=05b "
        "training.learning_rate=3e-5"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--output_dir x", "hydra.run.dir=FOLDER"),
        ("--auto_find_batch_size", "use batch=auto, or on_oom=halve"),
    ],
)
def test_a_flag_that_has_no_key_is_answered_with_the_reason(typed, said):
    line = refusal(*typed.split())
    assert line.startswith(f"{typed.split()[0]}: no such flag; training.arguments.")
    assert said in line


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("--per_device_train_batch_size 8", "batch.per_device_train_batch_size=8"),
        ("--gradient-accumulation-steps=2", "batch.gradient_accumulation_steps=2"),
        ("--gradient_checkpointing", "training.gradient_checkpointing=true"),
        ("--gradient_checkpointing --bf16", "training.gradient_checkpointing=true"),
        ("--bf16", "training.precision=bf16"),
        ("--lr 1e-4", "training.learning_rate=1e-4"),
        ("--train_file 'my file.csv'", "data=files 'data.train_file=my file.csv'"),
        ("--model_name_or_path x/y", "model=pretrained model.name_or_path=x/y"),
        ("--seed 3", "seed=3"),
    ],
)
def test_a_flag_of_a_script_is_answered_with_the_word_to_type(typed, key):
    assert refusal(*shlex.split(typed)).endswith(f"no such flag; as a key: {key}")


def test_a_precision_that_is_off_is_left_out():
    assert refusal("--bf16", "false") == "--bf16: no such flag; leave it out"


def test_a_choice_of_ones_own_that_does_not_divide_does_not_hide_the_answer(tmp_path, monkeypatch):
    own = tmp_path / "conf" / "batch" / "mine.yaml"
    own.parent.mkdir(parents=True)
    pair = "per_device_train_batch_size: 12\ngradient_accumulation_steps: 3\n"
    own.write_text(f"# @package batch\n{pair}")
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{tmp_path}/conf")
    settings = tmp_path / "train.yaml"
    settings.write_text("per_device_train_batch_size: 16\ngradient_accumulation_steps: 4\n")
    assert refusal("--config", str(settings)).endswith("batch=05b")


FLAGS = [flag for action in get_args_parser()._actions for flag in action.option_strings]


@pytest.mark.parametrize("words", [["-m", "batch=05a"], ["a=b"], *([flag, "x"] for flag in FLAGS)])
def test_words_and_flags_of_our_own_pass(words):
    refuse_script_words(words)


@pytest.mark.parametrize(("long", "short"), LONG_NAMES.items())
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_a_long_name_of_a_preset_is_the_preset(long, short, sign):
    assert read_words([f"{sign}batch={long}"]) == read_words([f"{sign}batch={short}"])


def test_a_sweep_over_the_long_names_is_the_sweep_over_the_presets():
    directory = "hydra.sweep.dir=/tmp/sweep"
    typed = read_words([f"batch={','.join(LONG_NAMES)}", "seed=1,2", directory])
    expected = compose_sweep(read_words(["batch=05a,05b,05c", "seed=1,2", directory]))
    assert compose_sweep(typed) == expected
    assert read_words([f"batch=choice({','.join(LONG_NAMES)})"]) == ["batch=choice(05a,05b,05c)"]
    assert read_words(["batch=05a_small_batch"]) == ["batch=05a_small_batch"], "only whole names"
