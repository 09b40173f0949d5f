"""Sweeps beyond three presets: every divisor, a pair of one's own, and searches by an objective."""

import importlib.util
import json
import sys

import pytest
import yaml
from support.processes import run_to_end
from support.runs import SMALL, records, resume, train

from batchopt.errors import RequestError
from batchopt.record.metrics import METRICS
from batchopt.request.compose import compose_run
from batchopt.request.objective import directions, read_objectives
from batchopt.request.presets import compose_presets
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import read_words
from batchopt.sweeps.search import WORST, value_of

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="pip install 'batchopt[optuna]'",
)


def plans(*words):
    return [str(job.request.plan) for job in compose_sweep(read_words(words)).jobs]


def test_one_word_sweeps_every_divisor_of_the_effective_batch():
    assert plans("batch=divisors") == [
        "1 x 64",
        "2 x 32",
        "4 x 16",
        "8 x 8",
        "16 x 4",
        "32 x 2",
        "64 x 1",
    ]
    assert plans("batch=divisors", "batch.effective_batch_size=6") == [
        *("1 x 6", "2 x 3", "3 x 2", "6 x 1")
    ]
    assert len(plans("seed=1,2", "batch=divisors", "training.learning_rate=1e-4,3e-4")) == 28


def test_a_pair_of_ones_own_is_named_by_the_pair():
    request = compose_run(["batch=custom", "batch.per_device_train_batch_size=32"])
    assert (request.preset, str(request.plan)) == ("32x2", "32 x 2")
    request = compose_run(["batch=custom", "batch.gradient_accumulation_steps=32"])
    assert (request.preset, str(request.plan)) == ("2x32", "2 x 32")
    sweep = compose_sweep(["batch=custom", "batch.per_device_train_batch_size=2,4"])
    assert [job.request.preset for job in sweep.jobs] == ["2x32", "4x16"]
    named = ["batch=custom", "batch.per_device_train_batch_size=32", "seed=2"]
    assert list(compose_presets(named).plans) == ["05a", "05b", "05c", "32x2"]


@pytest.mark.parametrize(
    ("words", "presets", "left_out"),
    [
        ([], ["05a", "05b", "05c"], ""),
        (["batch.effective_batch_size=128"], ["05a", "05b", "05c"], ""),
        (["batch.effective_batch_size=32"], ["05a", "05b"], "05c"),
        (["batch.effective_batch_size=48"], ["05a", "05b"], "05c"),
        (["batch.effective_batch_size=40"], ["05a"], "05b, 05c"),  # not the default either
        (["batch=05a", "batch.effective_batch_size=8"], ["05a"], "05b, 05c"),
        (["batch.effective_batch_size=6"], ["1x6", "2x3", "3x2", "6x1"], "05a, 05b, 05c"),
        (
            [
                "batch=custom",
                "batch.per_device_train_batch_size=4",
                "batch.effective_batch_size=12",
            ],
            ["4x3"],
            "05a, 05b, 05c",
        ),
    ],
)
def test_presets_that_do_not_divide_the_effective_batch_are_left_out(words, presets, left_out):
    found = compose_presets(words)
    assert list(found.plans) == presets
    assert found.request.plan in found.plans.values()
    effective = found.request.config.batch.effective_batch_size
    expected = f"left out: {left_out}, which do not divide batch.effective_batch_size={effective}"
    assert found.left_out == (expected if left_out else "")


@pytest.mark.slow
def test_probe_and_verify_say_which_presets_they_left_out(tmp_path, cache):
    words = [*SMALL, f"cache_dir={cache}", "batch.effective_batch_size=8"]
    for command in (["probe"], ["verify", "--steps=1"]):
        done = run_to_end(
            [sys.executable, "-m", f"batchopt.{command[0]}", *command[1:], *words], cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr
        line = "left out: 05b, 05c, which do not divide batch.effective_batch_size=8"
        assert line in done.stdout.splitlines()
        assert "8 x 1" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["batch.per_device_train_batch_size=8"], "leave batch.per_device_train_batch_size out"),
        (["batch.effective_batch_size=64,128"], "one whole number"),
        (["batch.effective_batch_size=0"], "one whole number"),
    ],
)
def test_every_divisor_is_refused_beside_what_contradicts_it(words, expected):
    with pytest.raises(RequestError, match=expected):
        read_words(["batch=divisors", *words])


def test_a_sweep_of_nothing_names_its_run_by_the_batch():
    assert [job.run_dir for job in compose_sweep([]).jobs] == ["0_batch=05b"]
    assert [job.run_dir for job in compose_sweep(["training.max_steps=3"]).jobs] == ["0_batch=05b"]
    assert [job.run_dir for job in compose_sweep(["batch=05a"]).jobs] == ["0_batch=05a"]
    own = compose_sweep(["hydra.sweep.subdir=mine"])
    assert [job.run_dir for job in own.jobs] == ["mine"]


def test_an_objective_is_a_metric_and_knows_which_way_is_better():
    assert read_objectives(None) == ()
    assert read_objectives("rouge_f1") == ("rouge_f1",)
    names = read_objectives(["steps_per_second", "peak_memory_bytes"])
    assert directions(names) == ["maximize", "minimize"]
    for wrong in ("rouge", "memory_source", ["rouge_f1", "speed"]):
        with pytest.raises(RequestError, match="objective is"):
            read_objectives(wrong)


def test_a_run_without_its_objective_is_worth_the_worst(tmp_path):
    def worth(record, *names):
        (tmp_path / "record.json").write_text(json.dumps(record))
        return value_of(tmp_path, names)

    metrics = {"rouge_f1": 0.5, "peak_memory_bytes": 7}
    done = {"schema_version": 2, "status": "completed", "metrics": metrics}
    assert worth(done, "rouge_f1") == 0.5
    assert worth(done, "rouge_f1", "peak_memory_bytes") == (0.5, 7.0)
    assert worth(done, "energy_j") == WORST
    assert worth({"status": "oom", "metrics": metrics}, "rouge_f1", "peak_memory_bytes") == (
        -WORST,
        WORST,
    )
    assert value_of(tmp_path / "nowhere", ["train_loss"]) == WORST


def test_every_metric_is_described():
    for name, metric in METRICS.items():
        assert metric.text.endswith("."), name
        for ending, unit in (("_bytes", "bytes"), ("_s", "s"), ("_w", "W"), ("_j", "J")):
            if name.endswith(ending):
                assert metric.unit == unit, name


SEARCH = [
    *("-m", "hydra/sweeper=optuna", "batch=05a,05b", "hydra.sweep.dir=sweep", "verify=false"),
    *("training.learning_rate=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.n_trials=2"),
    *("hydra.sweeper.n_jobs=1", "training.max_steps=2", "training.eval_steps=100"),
]


@needs_optuna
def test_a_search_checks_every_value_that_is_named_before_it_begins():
    words = [word for word in SEARCH if word != "-m"]
    sweep = compose_sweep([*words, "objective=rouge_f1"])
    assert sweep.search
    rates = {job.request.config.training.learning_rate for job in sweep.jobs}
    assert rates == {1e-4, 1e-2}
    assert {job.request.preset for job in sweep.jobs} == {"05a", "05b"}
    assert "hydra.sweeper.direction=[maximize]" in sweep.hydra_overrides
    for wrong, expected in (
        ([], "objective must be given"),
        (["objective=rouge_f1", "seed=1,x"], "seed"),
        (["objective=rouge_f1", "hydra.sweeper.direction=minimize"], "leave it out"),
        (["objective=rouge_f1", "hydra.sweeper.custom_search_space=os.system"], "may be named"),
    ):
        with pytest.raises(RequestError, match=expected):
            compose_sweep([*words, *wrong])


@needs_optuna
@pytest.mark.parametrize("objective", ["rouge_f1", "[steps_per_second,peak_memory_bytes]"])
def test_a_search_runs_by_the_objective_and_leaves_an_ordinary_sweep(objective, tmp_path, cache):
    done = train(*SEARCH, f"objective={objective}", cwd=tmp_path, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    found = records(tmp_path)
    assert [job["run_dir"] for job in planned] == list(found)
    assert len(found) == 2
    assert {record["status"] for record in found.values()} == {"completed"}
    result = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    if objective == "rouge_f1":
        scores = [record["metrics"]["rouge_f1"] for record in found.values()]
        assert result["best_value"] == max(scores)
        assert "best: " in done.stdout
    else:
        values = [tuple(one["values"]) for one in result["solutions"]]
        measured = {
            (record["metrics"]["steps_per_second"], float(record["metrics"]["peak_memory_bytes"]))
            for record in found.values()
        }
        assert set(values) <= measured
    assert train(*SEARCH, f"objective={objective}", cwd=tmp_path, cache=cache).returncode == 2


def test_a_sweep_goes_on_with_keys_that_change_no_number_and_with_no_others(tmp_path, cache):
    words = ["-m", "batch=05a,05b", "hydra.sweep.dir=sweep", "training.max_steps=1", "verify=false"]
    assert train(*words, cwd=tmp_path, cache=cache).returncode == 0
    before = records(tmp_path)
    (tmp_path / "sweep" / "1_batch=05b" / "record.json").unlink()
    new = ["tracker=tensorboard", "device.wait_for_free=false", "run.timeout_min=9"]
    done = resume(tmp_path / "sweep", *new, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: 0_batch=05a: completed" in done.stdout
    after = records(tmp_path)
    assert after["0_batch=05a"] == before["0_batch=05a"]
    assert after["1_batch=05b"]["config_hash"] == before["1_batch=05b"]["config_hash"]
    assert list((tmp_path / "sweep" / "1_batch=05b").rglob("events.out.tfevents.*"))
    other = resume(tmp_path / "sweep", "training.max_steps=2", cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr


@pytest.mark.slow
def test_a_sweep_over_names_that_hydra_cannot_read_runs_and_goes_on(tmp_path, cache):
    rows = "대화 내용,#요약#\n" + "".join(f"#A#: 안녕 {n},인사 {n}\n" for n in range(12))
    (tmp_path / "자료").mkdir()
    for name in ("학습 (1).csv", "자료/it's.csv"):
        (tmp_path / name).write_text(rows)
    words = [word for word in SMALL if not word.startswith("data.")]
    typed = [
        *("-m", "data=files", "data.train_file=학습 (1).csv,자료/it's.csv"),
        *("data.dialogue_column=대화 내용", "data.summary_columns=[#요약#]"),
        *("model.extra_tokens=[#A#,[이름]]", "hydra.sweep.dir=내 sweep", "training.max_steps=1"),
        *("hydra/launcher=local_gpus", f"cache_dir={cache}"),
    ]
    done = run_to_end([sys.executable, "-m", "batchopt.train", *words, *typed], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "내 sweep"
    runs = ["0_data.train_file=학습 (1).csv", "1_data.train_file=자료_its.csv"]
    assert list(records(folder)) == runs
    assert "'sweep=내 sweep'" in done.stdout
    (folder / runs[0] / "record.json").unlink()
    again = resume(folder, "tracker=tensorboard", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"kept: {runs[1]}: completed" in again.stdout
    assert {record["status"] for record in records(folder).values()} == {"completed"}
