"""Reads what a run or a sweep left, of an older or a newer batchopt, whole or damaged.

What is refused is refused in one line that names the file. A key that is not known is left alone,
one that is not there counts as not known.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import psutil

from batchopt.errors import RequestError
from batchopt.record.files import (
    METRICS,
    PREDICTIONS,
    RECORD,
    RUNNING,
    SWEEP,
    read_json,
    read_jsonl,
)


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """The record of a run; None where it left none.

    Raises:
        RequestError: The file is no record.
    """
    path = run_dir / RECORD
    record = _read_object(path, "remove it to have the run done anew")
    if record is not None and not isinstance(record.get("status"), str):
        raise RequestError(f"{path} has no status; remove it to have the run done anew")
    return record


def read_running(run_dir: Path) -> dict[str, Any] | None:
    """What a run that has no record said of itself; None where it said nothing.

    Raises:
        RequestError: The file is damaged.
    """
    return _read_object(run_dir / RUNNING, "remove it")


def read_plan(directory: Path) -> dict[str, Any] | None:
    """The plan of a sweep; None where the directory holds none.

    Raises:
        RequestError: The file is no plan, or a run of it would lie outside the sweep.
    """
    path = directory / SWEEP
    plan = _read_object(path, "name another directory")
    if plan is None:
        return None
    jobs = plan.get("jobs")
    if (
        not isinstance(plan.get("command"), str)
        or not isinstance(plan.get("cwd"), str | None)
        or not isinstance(jobs, list)
        or not all(_is_job(job) for job in jobs)
    ):
        raise RequestError(f"{path} does not hold the plan of a sweep; name another directory")
    for job in jobs:
        run_dir = PurePath(job["run_dir"])
        if run_dir.is_absolute() or ".." in run_dir.parts:
            raise RequestError(f"{path} plans {run_dir}; a run must stay inside its sweep")
    return plan


def is_here(noted: Mapping[str, Any]) -> bool:
    """Whether running.json or sweep.json names a process of this host."""
    return noted.get("hostname") == os.uname().nodename and isinstance(noted.get("pid"), int)


def lives(noted: Mapping[str, Any]) -> bool:
    """Whether the process of this host that wrote a file is there, and is still the same one."""
    try:
        process = psutil.Process(noted["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        began = process.create_time()
    except (psutil.NoSuchProcess, ValueError):  # ValueError: no number that a process can have
        return False
    try:
        written = datetime.fromisoformat(
            str(noted.get("attempt_started_at") or noted.get("launched_at"))
        )
    except ValueError:
        return True
    # A process that is younger than the file only inherited its number. The file's seconds are
    # whole, and a start is told from the kernel's ticks since it booted.
    return began < written.timestamp() + 60.0


def section(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a record; empty where it is not there or is no object."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _is_job(job: Any) -> bool:
    return (
        isinstance(job, dict)
        and isinstance(job.get("run_dir"), str)
        and isinstance(job.get("overrides"), list)
        and all(isinstance(word, str) for word in job["overrides"])
    )


def _read_object(path: Path, remedy: str) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"{path} cannot be read as JSON ({reason}); {remedy}") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} does not hold a JSON object; {remedy}")
    return value


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One planned run.

    `status` is "running" while there is a run without a record, and "missing" where there is none.
    `metrics` have the names and units of docs/reference/record.md; one that was not measured is
    None. `record` is the whole of record.json, empty without one.
    """

    run_dir: Path
    status: str
    cause: str
    preset: str | None
    seed: int | None
    plan: Mapping[str, Any]
    metrics: Mapping[str, Any]
    record: Mapping[str, Any]

    def training(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first: step, train_loss, learning_rate, grad_norm, times."""
        return [row for row in read_jsonl(self.run_dir / METRICS) if row["kind"] == "train"]

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations, oldest first: step, eval_loss, ROUGE, times."""
        return [row for row in read_jsonl(self.run_dir / METRICS) if row["kind"] == "evaluation"]

    def predictions(self) -> list[dict[str, Any]]:
        """The last evaluation's examples: id, references, prediction and the ROUGE of each."""
        return list(read_jsonl(self.run_dir / PREDICTIONS))


def read_run(run_dir: Path | str) -> RunRecord:
    """Reads the record of one run, whatever has become of it.

    Raises:
        RequestError: There is no such directory, or its record is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a directory; name a run, which has {RECORD}")
    return _read(folder, {})


def read_sweep(directory: Path | str) -> list[RunRecord]:
    """Reads the record of every planned run of a sweep, in their order.

    Raises:
        RequestError: The directory is no sweep's, or a record is damaged.
    """
    folder = Path(directory)
    plan = read_json(folder / SWEEP)
    if plan is None:
        raise RequestError(f"{folder} is no sweep: it has no {SWEEP}; read_run reads a single run")
    return [_read(folder / job["run_dir"], job) for job in plan["jobs"]]


def _read(run_dir: Path, planned: Mapping[str, Any]) -> RunRecord:
    record = read_record(run_dir)
    if record is None:
        begun = (run_dir / METRICS).exists()
        return RunRecord(
            run_dir=run_dir,
            status="running" if begun else "missing",
            cause="it has left no record" if begun else "it has not begun",
            preset=planned.get("preset"),
            seed=planned.get("seed"),
            plan={},
            metrics={},
            record={},
        )
    return RunRecord(
        run_dir=run_dir,
        status=record["status"],
        cause=record["cause"],
        preset=record["preset"],
        seed=record["seed"],
        plan=record["plan"],
        metrics=record["metrics"],
        record=record,
    )
