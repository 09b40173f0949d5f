"""Requests are composed, typed and refused before anything is loaded."""

import dataclasses

import pytest

from batchopt.errors import RequestError
from batchopt.request.compose import compose_run
from batchopt.request.config import FilesDataConfig, PretrainedModelConfig, SampleDataConfig
from batchopt.request.read_back import config_hash
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import read_words


@pytest.mark.parametrize(
    ("word", "accepted"),
    [
        ("+batch=05b", "batch=05b"),
        ("++batch=05b", "batch=05b"),
        ("+batch.packing=none", "batch.packing=none"),
        ("+seed=3", "seed=3"),
        ("batch=05b", "batch=05b"),
        ("+hydra.job.name=x", "+hydra.job.name=x"),
        ("+batches=1", "+batches=1"),
    ],
)
def test_a_plus_before_a_key_of_ours_is_dropped(word, accepted):
    assert read_words([word]) == [accepted]


@pytest.mark.parametrize(
    ("words", "pair"),
    [
        ([], "16 x 4"),
        (["batch=05a"], "8 x 8"),
        (["batch=05b"], "16 x 4"),
        (["batch=05c"], "64 x 1"),
        (["batch=05c", "batch.per_device_train_batch_size=32"], "32 x 2"),
        (["batch.gradient_accumulation_steps=2"], "32 x 2"),
        (["batch.effective_batch_size=128"], "16 x 8"),
    ],
)
def test_presets_and_overrides_give_the_plan(words, pair):
    assert str(compose_run(words).plan) == pair


def test_the_choice_of_a_group_decides_its_schema():
    assert isinstance(compose_run([]).config.data, SampleDataConfig)
    request = compose_run(["data=files", "data.train_file=/a/b.csv", "model=kobart"])
    assert isinstance(request.config.data, FilesDataConfig)
    assert isinstance(request.config.model, PretrainedModelConfig)
    assert request.config.training.learning_rate == request.config.model.learning_rate


def test_a_sweep_is_every_combination_with_its_own_directory():
    sweep = compose_sweep(["batch=05a,05b,05c", "seed=1,2", "data=files", "data.train_file=/a/b"])
    assert [str(job.request.plan) for job in sweep.jobs] == ["8 x 8"] * 2 + ["16 x 4"] * 2 + [
        "64 x 1"
    ] * 2
    assert [job.request.config.seed for job in sweep.jobs] == [1, 2] * 3
    assert sweep.jobs[2].run_dir == "2_batch=05b,seed=1"
    assert len({job.run_dir for job in sweep.jobs}) == len(sweep.jobs)


def test_one_wrong_run_refuses_the_whole_sweep():
    with pytest.raises(RequestError, match="05d"):
        compose_sweep(["batch=05a,05d"])
    with pytest.raises(RequestError, match="effective_batch_size"):
        compose_sweep(["batch=05a,05b", "batch.effective_batch_size=24"])


def test_the_hash_of_a_config_follows_what_decides_the_numbers():
    def of(*words):
        return config_hash(compose_run(words).config)

    assert of() == of("seed=1") == of("cache_dir=/elsewhere", "verify=false")
    assert len({of(), of("seed=2"), of("batch=05a"), of("training.max_steps=3")}) == 4


def test_every_key_has_a_help_text():
    from batchopt.request import config
    from batchopt.request.help import field_texts, help_text

    schemas = [
        value
        for value in vars(config).values()
        if dataclasses.is_dataclass(value) and value is not config.Config
    ]
    for schema in schemas:
        missing = {item.name for item in dataclasses.fields(schema)} - field_texts(schema).keys()
        assert not missing, schema
    text = help_text()
    assert "batch.per_device_train_batch_size" in text
    assert "training.gradient_checkpointing=false" in text


def test_an_experiment_brings_what_it_sweeps_and_own_words_go_before(monkeypatch, tmp_path):
    import shutil

    from batchopt.request import compose

    conf = tmp_path / "conf"
    shutil.copytree(compose.conf_dir(), conf)
    shutil.copy(conf / "batch" / "05b.yaml", conf / "batch" / "best.yaml")
    monkeypatch.setattr(compose, "conf_dir", lambda: conf)
    words = read_words(["experiment=combine"])
    jobs = compose_sweep(words).jobs
    assert len(jobs) == 12
    rates = {job.request.config.training.learning_rate for job in jobs}
    assert rates == {5e-4, 1e-3, 2e-3}
    assert {job.request.config.training.label_smoothing for job in jobs} == {0.0, 0.1}
    assert {job.request.preset for job in jobs} == {"best"}
    assert len({job.run_dir for job in jobs}) == 12
    assert not any("experiment" in job.run_dir for job in jobs)
    own = compose_sweep([*words, "training.learning_rate=1e-3", "seed=1,2"]).jobs
    assert len(own) == 8
    assert {job.request.config.training.learning_rate for job in own} == {1e-3}
