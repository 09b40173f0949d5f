"""Words are taken apart in one place, and one list says which keys change no number."""

import dataclasses

import pytest
from support import TOP

from batchopt.record.keys import CHANGES_NO_NUMBER, Word, changes_no_number
from batchopt.request.compose import compose_run
from batchopt.request.config import Config
from batchopt.request.read_back import config_hash
from batchopt.request.sweep import compose_sweep


@pytest.mark.parametrize(
    ("text", "sign", "key", "value"),
    [
        ("batch=05b", "", "batch", "05b"),
        ("+a.b=c", "+", "a.b", "c"),
        ("++a.b=", "++", "a.b", ""),
        ("~tracker", "~", "tracker", None),
        ("05b", "", "05b", None),
        ("a=b=c", "", "a", "b=c"),
        ("=x", "", "", "x"),
        ("", "", "", None),
        ("data.train_file=한\n글", "", "data.train_file", "한\n글"),
    ],
)
def test_a_word_is_taken_apart(text, sign, key, value):
    assert Word.parse(text) == Word(text, sign, key, value)


def test_words_are_taken_apart_in_one_place():
    rooms = [TOP / "src" / "batchopt" / room for room in ("request", "sweeps", "slurm")]
    files = [file for room in rooms for file in room.rglob("*.py")]
    files += [TOP / "src" / "batchopt" / name for name in ("train.py", "resume.py")]
    by_hand = ('partition("=")', 'split("="')
    assert len(files) > 20
    assert [
        file.name for file in files if any(way in file.read_text("utf-8") for way in by_hand)
    ] == []


WORDS = {
    "cache_dir": "cache_dir=/elsewhere",
    "device.wait_for_free": "device.wait_for_free=false",
    "hydra": "hydra.run.dir=/elsewhere",
    "objective": "objective=rouge_f1",
    "run": "run.timeout_min=5",
    "sweep": "sweep.retry=[oom]",
    "tracker": "tracker=tensorboard",
    "verify": "verify=false",
}


@pytest.mark.parametrize("key", CHANGES_NO_NUMBER)
def test_a_key_that_changes_no_number_leaves_the_hash(key):
    assert config_hash(compose_run([WORDS[key]]).config) == config_hash(compose_run([]).config)
    assert changes_no_number(Word.parse(WORDS[key]).key)


def test_every_other_key_is_one_that_may_change_a_number():
    others = {item.name for item in dataclasses.fields(Config)} - set(CHANGES_NO_NUMBER)
    assert others == {*("batch", "data", "model", "training", "metric", "device")} | {
        *("adapter", "generation", "probe", "on_oom", "seed")
    }
    assert not any(changes_no_number(key) for key in (*others, "runner", "verify_all", "device"))


@pytest.mark.parametrize(
    ("words", "basic", "here", "slurm"),
    [
        ([], True, True, False),
        (["hydra/launcher=basic"], True, True, False),
        (["hydra/launcher=local_gpus"], False, True, False),
        (["hydra/launcher=slurm"], False, False, True),
        (["hydra/launcher=submitit_slurm"], False, False, True),
        (["hydra/launcher=submitit_local"], False, False, False),
    ],
)
def test_a_launcher_is_known_by_its_class_for_a_run_and_for_a_sweep(words, basic, here, slurm):
    for launcher in (compose_run(words).launcher, compose_sweep(words).launcher):
        assert (launcher.is_basic, launcher.is_here, launcher.on_slurm) == (basic, here, slurm)


def test_a_sites_own_profile_of_slurm_is_slurm_too(tmp_path, monkeypatch):
    profile = tmp_path / "hydra" / "launcher" / "ours.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("defaults: [slurm]\npartition: gpu\n")
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{tmp_path}")
    launcher = compose_run(["hydra/launcher=ours"]).launcher
    assert (launcher.choice, launcher.on_slurm) == ("ours", True)
    assert launcher.options["partition"] == "gpu"
