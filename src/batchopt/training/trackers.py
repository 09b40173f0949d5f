"""Experiment trackers, through the integrations of the Trainer.

While a run trains, transformers logs it (`report_to`). This module sets the environment variables
that the integrations read, unless the user has set them, so that everything is written to the
directory of the run. Peak memory, energy and the status are known only after the training, outside
its process: `python -m batchopt.training.trackers RUN_DIR` adds them from the record.

Source: https://huggingface.co/docs/transformers/main_classes/callback for the variables.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchopt.cli import OK, Parser, answer
from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.statuses import Status
from batchopt.request.compose import RunRequest
from batchopt.request.config import Tracker
from batchopt.request.read_back import read_run
from batchopt.request.rules import check_installed

logger = logging.getLogger(__name__)

MODULES = {
    Tracker.none: (),
    Tracker.tensorboard: ("tensorboard",),
    Tracker.wandb: ("wandb",),
    # The last two are for its local store only: mlflow 3 refuses plain files, and its light package
    # has no database.
    Tracker.mlflow: ("mlflow", "sqlalchemy", "alembic"),
    Tracker.trackio: ("trackio",),
}
"""The modules that each tracker needs; the extra in pyproject.toml has the name of the tracker."""

REPORT_TIMEOUT_S = 300.0
"""Seconds that a server may take to accept the final numbers; the next run waits for it."""

FINAL = "final"
"""Prefix of the numbers of the record: final/peak_memory_bytes, final/rouge_f1, …"""


def check(tracker: Tracker, environ: Mapping[str, str]) -> None:
    """Checks before anything runs that the tracker can be used.

    Raises:
        RequestError: A package is missing, or a password would end up in logs.
    """
    name = tracker.value
    # MLflow puts the whole address into its error messages, and those into logs and records.
    if tracker is Tracker.mlflow and urlsplit(environ.get("MLFLOW_TRACKING_URI", "")).password:
        raise RequestError(
            "MLFLOW_TRACKING_URI holds a password, which would end up in logs; give it in "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    check_installed(f"tracker={name}", MODULES[tracker], name)


@dataclass(frozen=True, slots=True)
class Identity:
    """The names of a run in a tracker; the same for all attempts, and for the final numbers.

    `id` is new for each run, also for one in the directory of an earlier run.
    """

    name: str
    sweep: str | None
    tags: Mapping[str, str]
    id: str


def identify(request: RunRequest, run_dir: Path) -> Identity:
    """Names a run by its sweep and directory, and tags it with preset, sweep, seed and batch."""
    run_dir = run_dir.resolve()
    in_sweep = (run_dir.parent / files.SWEEP).exists()
    # The last two folders of multirun/DATE/TIME are unique enough.
    sweep = "/".join(run_dir.parent.parts[-2:]) if in_sweep else None
    begun = files.read_json(run_dir / files.RUNNING) or {}
    begun = files.read_json(run_dir / files.RECORD) or begun
    unique = f"{run_dir}\n{begun.get('started_at')}"
    tags = {
        "preset": request.preset,
        "seed": str(request.config.seed),
        "batch": str(request.plan) if request.plan else "auto",
    }
    return Identity(
        name=f"{sweep}/{run_dir.name}" if sweep else run_dir.name,
        sweep=sweep,
        tags=tags | ({"sweep": sweep} if sweep else {}),
        id=hashlib.sha256(unique.encode()).hexdigest()[:16],
    )


def set_up(request: RunRequest, run_dir: Path) -> str:
    """Sets the environment of this process for the tracker; returns the name of the run.

    Variables that the user has set (WANDB_MODE, MLFLOW_TRACKING_URI, …) stay.
    """
    tracker, project = request.config.tracker.name, request.config.tracker.project
    identity = identify(request, run_dir)
    folder = run_dir.resolve()
    settings: dict[str, str] = {}
    match tracker:
        case Tracker.tensorboard:
            settings = {"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard")}
        case Tracker.wandb:
            settings = {
                "WANDB_PROJECT": project,
                "WANDB_DIR": str(folder),
                "WANDB_RUN_ID": identity.id,
                "WANDB_RESUME": "allow",
                "WANDB_RUN_GROUP": identity.sweep or "",
                "WANDB_TAGS": ",".join(f"{key}={tag}" for key, tag in identity.tags.items()),
                "WANDB_SILENT": "true",
            }
        case Tracker.mlflow:
            settings = {
                "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
                "MLFLOW_EXPERIMENT_NAME": project,
                "MLFLOW_TAGS": json.dumps({**identity.tags, _MLFLOW_ID: identity.id}),
            }
        case Tracker.trackio:
            settings = {"TRACKIO_DIR": str(folder / "trackio")}
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    return identity.name


_MLFLOW_ID = "batchopt_id"


def report(request: RunRequest, run_dir: Path) -> None:
    """Adds the final numbers of a finished run, in a child; a failure is only logged."""
    if request.config.tracker.name is Tracker.none:
        return
    words = [sys.executable, "-m", "batchopt.training.trackers", str(run_dir)]
    try:
        subprocess.run(words, stdin=subprocess.DEVNULL, check=True, timeout=REPORT_TIMEOUT_S)
    except subprocess.SubprocessError as error:
        name = request.config.tracker.name.value
        logger.warning("the final numbers of %s did not reach %s (%s)", run_dir, name, error)


def main(words: list[str]) -> int:
    """Adds the final numbers of one run to its tracker."""
    parser = Parser(
        prog="python -m batchopt.training.trackers", description="Log a run's final numbers."
    )
    parser.add_argument("run_dir", type=Path, help="the directory of a run that has ended")
    run_dir = parser.parse_args(words).run_dir
    request = read_run(run_dir)
    record = files.read_json(run_dir / files.RECORD)
    if record is None:
        raise RequestError(f"{run_dir} has no {files.RECORD}: the run has not ended")
    check(request.config.tracker.name, os.environ)
    set_up(request, run_dir)
    numbers = {
        f"{FINAL}/{name}": float(value)
        for name, value in record["metrics"].items()
        if isinstance(value, int | float)
    }
    project, identity = request.config.tracker.project, identify(request, run_dir)
    match request.config.tracker.name:
        case Tracker.tensorboard:
            _to_tensorboard(identity, record, numbers)
        case Tracker.wandb:
            _to_wandb(identity, record, numbers)
        case Tracker.mlflow:
            _to_mlflow(identity, record, numbers)
        case Tracker.trackio:
            _to_trackio(project, identity, numbers)
    return OK


def _to_tensorboard(
    identity: Identity, record: Mapping[str, Any], numbers: Mapping[str, float]
) -> None:
    """Fills the HPARAMS tab, which compares runs."""
    from torch.utils.tensorboard import SummaryWriter

    facts = {**identity.tags, "status": record["status"]}
    with SummaryWriter(os.environ["TENSORBOARD_LOGGING_DIR"]) as writer:
        writer.add_hparams(facts, dict(numbers), run_name=".")


def _to_wandb(identity: Identity, record: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
    import wandb

    run = wandb.init(name=identity.name)
    run.summary.update({**numbers, "status": record["status"], "cause": record["cause"]})
    run.finish(exit_code=int(record["status"] != Status.completed))


def _to_mlflow(identity: Identity, record: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
    import mlflow

    experiment = mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    client = mlflow.MlflowClient()
    found = client.search_runs(
        [experiment.experiment_id], f"tags.{_MLFLOW_ID} = '{identity.id}'", max_results=1
    )
    # The newest attempt of the run; a new run if it died before its first attempt was logged.
    run_id = found[0].info.run_id if found else None
    with mlflow.start_run(run_id, run_name=None if run_id else identity.name) as run:
        tags = {**identity.tags, _MLFLOW_ID: identity.id}
        mlflow.set_tags({**tags, "status": record["status"], "cause": record["cause"]})
        mlflow.log_metrics(dict(numbers))
    client.set_terminated(
        run.info.run_id,
        "FINISHED" if record["status"] == Status.completed else "FAILED",
    )


def _to_trackio(project: str, identity: Identity, numbers: Mapping[str, float]) -> None:
    import trackio

    # A resumed run gets a new config, so the entries of the Trainer are copied.
    same = [run for run in trackio.Api().runs(project) if run.name == identity.name]
    config = {key: value for run in same for key, value in (run.config or {}).items()}
    noted = {key: value for key, value in config.items() if not key.startswith("_")}
    trackio.init(
        project=project, name=identity.name, resume="allow", config={**noted, **identity.tags}
    )
    trackio.log(dict(numbers))
    trackio.finish()


if __name__ == "__main__":
    sys.exit(answer(main))
