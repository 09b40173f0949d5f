"""What comes from others is read without executing it, and secrets stay where they are."""

import json
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from support.processes import begin, finish, run_to_end, wait_for
from support.runs import SMALL, records, start, train

from batchopt.errors import RequestError
from batchopt.record.read import read_plan
from batchopt.request.compose import compose_run
from batchopt.request.read_back import read_run
from batchopt.request.sweep import compose_sweep
from batchopt.resume import main as resume
from batchopt.training.checkpoints import step_of

SECRETS = {
    "HF_TOKEN": "hf_SecretSecretSecretSecretSecret12",
    "HUGGING_FACE_HUB_TOKEN": "hf_OtherOtherOtherOtherOtherOther12",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MLFLOW_TRACKING_PASSWORD": "s3cret-mlflow-password",
    "COMET_API_KEY": "s3cret-comet-key",
}


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


def test_the_payload_works(tmp_path):
    """Else the tests below would pass for nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def checkpoint_of_a_stopped_run(cwd, cache):
    """A run stopped by a signal, which leaves a whole checkpoint; returns the checkpoint."""
    run = start(
        *("batch=05b", "training.max_steps=400", "training.eval_steps=2", "hydra.run.dir=run"),
        cwd=cwd,
        cache=cache,
    )
    wait_for(lambda: list(cwd.rglob("batchopt.json")), "a checkpoint", process=run)
    os.kill(run.pid, signal.SIGINT)
    finish(run, 60)
    return max(cwd.rglob("batchopt.json"), key=lambda path: path.stat().st_mtime).parent


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, cache):
    cwd = tmp_path_factory.mktemp("interrupted")
    return cwd, checkpoint_of_a_stopped_run(cwd, cache)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_with_code_in_it_is_not_executed(name, interrupted, tmp_path):
    cwd, checkpoint = interrupted
    copy, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(cwd / "run", copy)
    torch.save(Payload(mark), copy / "checkpoints" / checkpoint.name / name)
    done = resumed(copy)
    assert not mark.exists()
    record = records(tmp_path)["run"]
    assert record["status"] == "failed", done.stdout
    assert "eights" in record["cause"]
    assert "weights_only" in record["cause"].lower() or "Weights only" in record["cause"]


def resumed(run, *words):
    return run_to_end([sys.executable, "-m", "batchopt.resume", str(run), *words])


def test_what_is_never_read_of_a_checkpoint_does_no_harm(interrupted, tmp_path):
    """training_args.bin is a pickle that the Trainer writes, and weights may be one."""
    cwd, checkpoint = interrupted
    copy, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(cwd / "run", copy)
    folder = copy / "checkpoints" / checkpoint.name
    for name in ("training_args.bin", "pytorch_model.bin"):
        torch.save(Payload(mark), folder / name)
    step = step_of(checkpoint)
    words = [sys.executable, "-m", "batchopt.resume", str(copy)]
    again = begin(words, cwd=tmp_path, env=os.environ)
    wait_for(
        lambda: any(step_of(path.parent) > step for path in copy.rglob("batchopt.json")),
        "the next checkpoint",
        process=again,
    )
    os.kill(again.pid, signal.SIGINT)
    output, _ = finish(again)
    assert not mark.exists()
    assert records(tmp_path)["run"]["metrics"]["optimizer_steps_done"] > step, output


def test_weights_that_are_a_pickle_are_not_executed(interrupted, tmp_path):
    cwd, checkpoint = interrupted
    copy, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(cwd / "run", copy)
    folder = copy / "checkpoints" / checkpoint.name
    (folder / "model.safetensors").unlink()
    torch.save(Payload(mark), folder / "pytorch_model.bin")
    resumed(copy)
    assert not mark.exists()
    assert records(tmp_path)["run"]["status"] == "failed"


def model_folder(path, checkpoint):
    """A local model in transformers' own format: that of a checkpoint."""
    path.mkdir()
    for file in checkpoint.iterdir():
        if file.suffix == ".json" or file.name == "model.safetensors":
            shutil.copy(file, path)
    (path / "batchopt.json").unlink()
    return path


def train_on(model, *, cwd, cache):
    """The small run without the keys that only a fresh model has."""
    words = [word for word in SMALL if not word.startswith("model.")]
    words += ["batch=05b", "model=pretrained", f"model.name_or_path={model}", f"cache_dir={cache}"]
    return run_to_end([sys.executable, "-m", "batchopt.train", *words], cwd=cwd)


def test_a_local_model_with_code_in_its_weights_is_refused(interrupted, tmp_path, cache):
    mark = tmp_path / "mark"
    model = model_folder(tmp_path / "model", interrupted[1])
    (model / "model.safetensors").unlink()
    torch.save(Payload(mark), model / "pytorch_model.bin")
    done = train_on(model, cwd=tmp_path, cache=cache)
    assert not mark.exists()
    assert done.returncode == 2, done.stdout + done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("batchopt: model.name_or_path")
    assert "Traceback" not in done.stderr


def test_the_code_of_a_model_is_not_run_unless_asked_for(interrupted, tmp_path, cache):
    mark = tmp_path / "mark"
    model = model_folder(tmp_path / "model", interrupted[1])
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "unheard_of"
    config["auto_map"] = {
        "AutoConfig": "code.Config",
        "AutoModelForSeq2SeqLM": "code.Model",
        "AutoTokenizer": "code.Tokenizer",
    }
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"import os\nos.system(\"touch '{mark}'\")\n")
    done = train_on(model, cwd=tmp_path, cache=cache)
    assert not mark.exists()
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("batchopt: ")


FOREIGN = [
    "hydra.launcher._target_=os.system",
    "hydra.sweeper._target_=subprocess.Popen",
    "+hydra.callbacks.x._target_=os.system",
    "+hydra.callbacks={x:{_target_:builtins.exec}}",
    "+hydra.job_logging.handlers.x.class=os.system",
    "+hydra.job_logging.handlers.x={'()':os.system}",
    "+hydra.hydra_logging.formatters.x={'()':os.system}",
    "+model._target_=os.system",
    "+data._target_=os.system",
    "+training={_target_:os.system}",
]


@pytest.mark.parametrize("word", FOREIGN)
def test_a_config_that_names_something_to_call_is_refused_in_one_line(word):
    for compose in (lambda: compose_run([word]), lambda: compose_sweep(["batch=05a,05b", word])):
        with pytest.raises(RequestError) as refusal:
            compose()
        assert len(str(refusal.value).splitlines()) == 1


@pytest.fixture
def run_dir(tmp_path):
    """A run's directory as Hydra leaves it."""
    from omegaconf import OmegaConf

    from batchopt.request.compose import compose_config, composing

    folder = tmp_path / "run" / ".hydra"
    folder.mkdir(parents=True)
    with composing():
        composed = compose_config(["hydra.runtime.cwd=/", "hydra.runtime.output_dir=/"])
    OmegaConf.save(OmegaConf.create({"hydra": composed.hydra}), folder / "hydra.yaml")
    plain = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    OmegaConf.save(plain, folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(["batch=05b"]), folder / "overrides.yaml")
    assert str(read_run(folder.parent).plan) == "16 x 4"
    return folder.parent


@pytest.mark.parametrize("name", ["config.yaml", "hydra.yaml", "overrides.yaml"])
def test_objects_of_python_in_yaml_are_refused_in_one_line(name, run_dir, tmp_path):
    mark = tmp_path / "mark"
    file = run_dir / ".hydra" / name
    for tag in ("!!python/object/apply:os.system", "!!python/object/new:os.system"):
        file.write_text(f"x: {tag} [\"touch '{mark}'\"]\n")
        readers = [lambda: read_run(run_dir)]
        if name != "config.yaml":  # which resume composes anew
            readers += [lambda: resume([str(run_dir)])]
        for read in readers:
            with pytest.raises(RequestError) as refusal:
                read()
            assert str(file) in str(refusal.value)
            assert len(str(refusal.value).splitlines()) == 1
        assert not mark.exists()


def test_a_config_folder_of_somebody_else_is_read_without_executing_it(tmp_path):
    mark = tmp_path / "mark"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "evil.yaml").write_text(
        f"source: tiny\nlearning_rate: !!python/object/apply:os.system [\"touch '{mark}'\"]\n"
    )
    with pytest.raises(RequestError) as refusal:
        compose_run([f"hydra.searchpath=[file://{tmp_path}]", "model=evil"])
    assert not mark.exists()
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("place", ["../../x", "/etc", "a/../../b", ".."])
def test_a_plan_whose_runs_lie_outside_is_refused(place, tmp_path):
    plan = {
        "schema_version": 1,
        "command": "python -m batchopt.train -m batch=05a",
        "cwd": "/",
        "jobs": [{"number": 0, "run_dir": place, "overrides": []}],
    }
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    with pytest.raises(RequestError) as refusal:
        read_plan(tmp_path)
    assert "inside its sweep" in str(refusal.value)


@pytest.mark.parametrize("word", ["hydra.sweep.subdir=../../x", "hydra.sweep.subdir=/etc/x"])
def test_a_run_that_would_lie_outside_its_sweep_is_refused(word):
    with pytest.raises(RequestError) as refusal:
        compose_sweep(["batch=05a,05b", word])
    assert "inside its sweep" in str(refusal.value)


def test_no_token_reaches_a_file_or_the_terminal(tmp_path, cache):
    environ = os.environ | SECRETS
    done = train(
        *("-m", "batch=05b", "training.learning_rate=2e-3,1e30", "training.max_steps=3"),
        "hydra.sweep.dir=sweep",
        cwd=tmp_path,
        cache=cache,
        env=environ,
    )
    assert done.returncode == 1, "one run completes and one fails, with its traceback"
    assert {record["status"] for record in records(tmp_path).values()} == {"completed", "failed"}
    refused = train(
        *("batch=05b", "model=pretrained", "model.name_or_path=nobody/nothing"),
        cwd=tmp_path,
        cache=cache,
        env=environ,
    )
    assert refused.returncode == 2
    texts = [done.stdout, done.stderr, refused.stdout, refused.stderr]
    for root in (tmp_path, Path(cache)):
        texts += [path.read_bytes().decode("latin-1") for path in root.rglob("*") if path.is_file()]
    assert len(texts) > 20
    for secret in SECRETS.values():
        assert not [text for text in texts if secret in text]
