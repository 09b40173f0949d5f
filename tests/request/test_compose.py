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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bf16: true", "training.arguments.bf16: use training.precision=bf16"),
        ("adam_bet2: 0.9", "adam_bet2: no such key; did you mean training.arguments.adam_beta2?"),
        ("tf32: maybe", "training.arguments.tf32 is maybe; it must be true or false"),
        ("lr_scheduler_kwargs: {num_cycle: 3}", "num_cycle: no such key; did you mean training."),
    ],
)
def test_a_recipe_in_a_file_is_answered_like_the_words(tmp_path, monkeypatch, line, said):
    (tmp_path / "experiment").mkdir()
    start = "# @package _global_\ntraining:\n  lr_scheduler_type: cosine\n  arguments:\n    "
    (tmp_path / "experiment" / "mine.yaml").write_text(start + line)
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{tmp_path}")
    with pytest.raises(RequestError) as refusal:
        compose_run(["+experiment=mine"])
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_recipe_in_a_file_is_a_request_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /generation: beam]\ntraining:\n"
        "  lr_scheduler_type: cosine_with_restarts\n  warmup_steps: 0.02\n  arguments:\n"
        "    adam_beta2: 0.95\n    lr_scheduler_kwargs: {num_cycles: 5}\n"
        "generation: {num_beams: 10, min_length: 28, length_penalty: 0.75}\n"
    )
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{tmp_path}")
    mine = compose_run(["+experiment=mine"])
    words = [
        *("training.lr_scheduler_type=cosine_with_restarts", "training.warmup_steps=0.02"),
        *("training.arguments.adam_beta2=0.95", "generation=beam", "generation.num_beams=10"),
        "training.arguments.lr_scheduler_kwargs.num_cycles=5",
        *("generation.min_length=28", "generation.length_penalty=0.75"),
    ]
    typed = compose_run(read_words(words))
    assert mine.config == typed.config
    assert config_hash(mine.config) == config_hash(typed.config)


def test_a_file_that_sweeps_a_key_of_an_open_table_is_told_of_the_plus(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    key = "training.arguments.lr_scheduler_kwargs.num_cycles"
    start = "# @package _global_\ntraining: {lr_scheduler_type: cosine}\nhydra:\n  sweeper:\n"
    file = tmp_path / "experiment" / "mine.yaml"
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{tmp_path}")
    file.write_text(f"{start}    params:\n      {key}: 1,2\n")
    with pytest.raises(RequestError, match=r"in hydra.sweeper.params: \+\+training.arguments"):
        compose_sweep(["+experiment=mine"])
    file.write_text(f"{start}    params:\n      ++{key}: 1,2\n")
    assert len(compose_sweep(["+experiment=mine"]).jobs) == 2


def test_a_key_of_an_open_table_is_swept_and_names_its_folder():
    sweep = compose_sweep(
        read_words(
            [
                *("batch=05a", "training.lr_scheduler_type=cosine"),
                "training.arguments.lr_scheduler_kwargs.num_cycles=1,2",
            ]
        )
    )
    cycles = [job.request.config.training.arguments.lr_scheduler_kwargs for job in sweep.jobs]
    assert cycles == [{"num_cycles": 1}, {"num_cycles": 2}]
    assert sweep.jobs[1].run_dir == (
        "1_training.arguments.lr_scheduler_kwargs.num_cycles=2,batch=05a"
    )
    assert len({config_hash(job.request.config) for job in sweep.jobs}) == 2
