"""Trackers: refused in time, told who the run is, and of every final number; never of a secret."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys

import pytest
from support import TOP
from support.processes import run_to_end
from support.runs import SMALL

from batchopt.request.compose import compose_run
from batchopt.request.config import Tracker
from batchopt.training import trackers

SECRETS = {
    "WANDB_API_KEY": "5ec2e7" * 6 + "abcd",
    "HF_TOKEN": "hf_5ecretOfTheHubAbcdefghijklmnop",
    "MLFLOW_TRACKING_TOKEN": "5ecretTokenOfMlflow",
    "MLFLOW_TRACKING_PASSWORD": "5ecretWordOfMlflow",
}


def train(*words, cwd, env=None):
    return run_to_end(
        [sys.executable, "-m", "batchopt.train", *SMALL, *words],
        cwd=cwd,
        env=os.environ | (env or {}),
    )


# Before anything runs


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow", "trackio"])
@pytest.mark.parametrize("mode", [(), ("-m",)])
def test_a_package_that_is_missing_is_one_line_and_nothing_runs(tracker, mode, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    # As if it were not installed, wherever this test runs.
    (site / "sitecustomize.py").write_text(f"import sys; sys.modules[{tracker!r}] = None")
    path = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    cwd = tmp_path / "work"
    cwd.mkdir()
    done = train(*mode, "batch=05a", f"tracker={tracker}", cwd=cwd, env={"PYTHONPATH": path})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"batchopt: tracker={tracker}: the package {tracker} is not installed")
    assert f"pip install 'batchopt[{tracker}]'" in line
    assert list(cwd.iterdir()) == []


def test_every_tracker_has_its_extra():
    import tomllib

    pyproject = TOP / "pyproject.toml"
    extras = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]
    assert {tracker.value for tracker in Tracker} - {"none"} <= extras.keys()


def test_a_password_in_the_address_is_refused_without_being_shown(tmp_path):
    env = {"MLFLOW_TRACKING_URI": "https://name:5ecret@mlflow.example"}
    done = train("batch=05a", "tracker=mlflow", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert "5ecret" not in done.stdout + done.stderr


# Who the run is


def request_of(*words):
    return compose_run(["batch=05b", "seed=3", "tracker=wandb", *words])


def run_dir_of(tmp_path, *, in_sweep=True, started_at="2026-11-24T10:00:00Z"):
    run_dir = tmp_path / "multirun" / "2026-11-24" / "10-00-00" / "0_batch=05b,seed=3"
    run_dir.mkdir(parents=True, exist_ok=True)
    if in_sweep:
        (run_dir.parent / "sweep.json").write_text("{}")
    (run_dir / "running.json").write_text(json.dumps({"started_at": started_at}))
    return run_dir


def test_a_run_is_named_and_tagged_by_sweep_preset_and_seed(tmp_path):
    run_dir = run_dir_of(tmp_path)
    identity = trackers.identify(request_of(), run_dir)
    assert identity.sweep == "2026-11-24/10-00-00"
    assert identity.name == "2026-11-24/10-00-00/0_batch=05b,seed=3"
    assert identity.tags == {
        "preset": "05b",
        "seed": "3",
        "batch": "16 x 4",
        "sweep": "2026-11-24/10-00-00",
    }
    again = trackers.identify(request_of(), run_dir)
    assert again.id == identity.id, "all attempts of a run are one run"
    (run_dir / "record.json").write_text('{"started_at": "2026-11-24T10:00:00Z"}')
    (run_dir / "running.json").unlink()
    assert trackers.identify(request_of(), run_dir).id == identity.id, "its record too"
    (run_dir / "record.json").unlink()
    other = trackers.identify(request_of(), run_dir_of(tmp_path, started_at="2026-11-25T00:00:00Z"))
    assert other.id != identity.id, "another run in the same directory is another run"


def test_a_run_of_its_own_belongs_to_no_sweep(tmp_path):
    identity = trackers.identify(request_of(), run_dir_of(tmp_path, in_sweep=False))
    assert identity.name == "0_batch=05b,seed=3"
    assert "sweep" not in identity.tags


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    mine = {"WANDB_MODE": "offline", "WANDB_PROJECT": "mine", "WANDB_DIR": "/elsewhere"}
    monkeypatch.setattr(os, "environ", dict(mine))
    trackers.set_up(request_of("tracker.project=other"), run_dir_of(tmp_path))
    assert {key: os.environ[key] for key in mine} == mine
    assert os.environ["WANDB_TAGS"].split(",")[:2] == ["preset=05b", "seed=3"]


def test_without_a_tracker_nothing_is_set_and_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    request = compose_run(["batch=05b"])
    trackers.set_up(request, tmp_path)
    trackers.report(request, tmp_path)
    assert os.environ == {}


def test_final_numbers_that_do_not_arrive_are_no_failure_of_the_run(tmp_path, caplog):
    trackers.report(request_of(), tmp_path)  # it has no record
    assert "did not reach wandb" in caplog.text


def test_the_tracker_does_not_make_it_another_configuration():
    from batchopt.request.read_back import config_hash

    hashes = {
        config_hash(compose_run(["batch=05b", f"tracker={tracker.value}"]).config)
        for tracker in Tracker
    }
    assert len(hashes) == 1


# For real


def tracked(tmp_path, cache, tracker, *words):
    """A sweep of one run with a tracker; its directory and its record."""
    for module in trackers.MODULES[Tracker(tracker)]:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[{tracker}]'")
    env = SECRETS | {"WANDB_MODE": "offline"}
    words = ["-m", "batch=05a", f"tracker={tracker}", f"cache_dir={cache}", *words]
    done = train(*words, cwd=tmp_path, env=env)
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert "did not reach" not in done.stderr, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"multirun"}
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        found = [name for name, secret in SECRETS.items() if secret.encode() in file.read_bytes()]
        assert found == [], f"{file} holds a secret"
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())
    return path.parent, record


def numbers(record):
    """The final numbers as a tracker must have them."""
    return {
        f"final/{name}": value
        for name, value in record["metrics"].items()
        if isinstance(value, int | float)
    }


@pytest.mark.slow
def test_tensorboard_has_the_curves_and_the_final_numbers(tmp_path, cache):
    run_dir, record = tracked(tmp_path, cache, "tensorboard")
    # In a process of its own: tensorboard's imports warn.
    code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]); events.Reload()
tags = events.Tags()["scalars"]
scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
print(json.dumps([scalars, hparams.decode(errors="replace")]))
"""
    words = [sys.executable, "-W", "ignore", "-c", code, str(run_dir / "tensorboard")]
    scalars, hparams = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in scalars["eval/rouge_f1"]] == [0, 3, 4]
    for name, value in numbers(record).items():
        assert scalars[name][-1][1] == pytest.approx(value, rel=1e-6), name
    assert "preset" in hparams
    assert "05a" in hparams
    assert "completed" in hparams


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status"), [((), "FINISHED"), (("training.learning_rate=1e30",), "FAILED")]
)
def test_mlflow_has_the_run_with_its_tags_and_its_end(words, status, tmp_path, cache):
    run_dir, record = tracked(tmp_path, cache, "mlflow", *words)
    with sqlite3.connect(run_dir / "mlflow.db") as store:
        ((run_id, name, ended, experiment),) = store.execute(
            "select run_uuid, runs.name, status, experiments.name from runs join experiments "
            "using (experiment_id)"
        ).fetchall()
        tags = dict(store.execute("select key, value from tags where run_uuid = ?", [run_id]))
        values = dict(store.execute("select key, value from latest_metrics"))
    assert (ended, experiment) == (status, "batchopt")
    assert name == "/".join(run_dir.parts[-3:])
    assert (tags["preset"], tags["seed"], tags["batch"]) == ("05a", "1", "8 x 8")
    assert tags["sweep"] == "/".join(run_dir.parts[-3:-1])
    assert (tags["status"], tags["cause"]) == (record["status"], record["cause"])
    assert "loss" in values
    final = {name: value for name, value in values.items() if name.startswith("final/")}
    assert final == pytest.approx(numbers(record))


@pytest.mark.slow
def test_trackio_has_one_run_with_its_config_and_its_final_numbers(tmp_path, cache):
    run_dir, record = tracked(tmp_path, cache, "trackio", "tracker.project=mine")
    with sqlite3.connect(run_dir / "trackio" / "mine.db") as store:
        rows = store.execute("select run_name, metrics from metrics order by id").fetchall()
        ((config,),) = store.execute("select config from configs").fetchall()
    assert {name for name, _ in rows} == {"/".join(run_dir.parts[-3:])}
    logged = [json.loads(metrics) for _, metrics in rows]
    assert [row["train/global_step"] for row in logged if "train/loss" in row] == [1, 2, 3, 4]
    assert logged[-1] == pytest.approx(numbers(record))
    config = json.loads(config)
    assert (config["preset"], config["seed"]) == ("05a", "1")
    assert config["learning_rate"] == 4e-3, "what the Trainer noted is still there"


@pytest.mark.slow
def test_wandb_offline_has_the_final_numbers_in_the_same_run(tmp_path, cache):
    run_dir, record = tracked(tmp_path, cache, "wandb")
    files = sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2, "the training, and what came after it"
    assert len({file.name for file in files}) == 1, "under one id: wandb sync makes them one run"
    training, after = (file.read_bytes() for file in files)
    assert b"preset=05a" in training
    assert b"train/loss" in training
    for name in numbers(record):
        assert name.encode() in after, name


def test_a_wrong_directory_is_one_line(tmp_path):
    words = [sys.executable, "-m", "batchopt.training.trackers", str(tmp_path)]
    done = run_to_end(words)
    assert done.returncode == 2
    assert "is no run's directory" in done.stderr
