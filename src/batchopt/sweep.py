"""A sweep's own files: what was planned, what came of it, and what is left to do."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from batchopt.compose import RunRequest, Sweep, config_hash
from batchopt.environment import code_hash
from batchopt.errors import RequestError
from batchopt.records import is_here, lives, read_plan, read_record, read_running, section
from batchopt.run_files import SWEEP, sweep_up, write_json

SCHEMA_VERSION = 1

STALE = ".stale"
"""Folder of a sweep for runs that were run anew; nobody's results are thrown away."""

_CHANGES_NO_RUN = ("sweep.", "run.", "verify", "cache_dir", "objective", "hydra")
"""What a resumed sweep may set anew."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one planned run ended; `missing` where it left no record."""

    name: str
    plan: str
    status: str
    cause: str
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Left:
    """What a run of a sweep that is started again was found to be.

    `state` is a word of `sweep.retry`; `reason` says what differs in a stale one.
    """

    run_dir: Path
    state: str
    reason: str
    again: bool


def write_plan(sweep: Sweep, command: str) -> bool:
    """Writes sweep.json before the first run starts.

    Returns:
        Whether the directory holds this very sweep already, which then goes on.

    Raises:
        RequestError: The directory holds another sweep.
    """
    path = sweep.directory / SWEEP
    jobs = [_planned(job.request, job.number, job.run_dir) for job in sweep.jobs]
    # Who starts the runs, so that others can tell whether one that waits still will be.
    launcher = {"pid": os.getpid(), "hostname": os.uname().nodename, "launched_at": _now()}
    before = read_plan(sweep.directory)
    if before is not None:
        if sweep.search or "search" in before:
            raise RequestError(
                f"hydra.sweep.dir: {sweep.directory} holds a search or other runs; a search that "
                "is to be carried on wants hydra.sweeper.storage, and a directory for each go"
            )
        if _what_runs(before["jobs"]) != _what_runs(jobs):
            raise RequestError(
                f"hydra.sweep.dir: {sweep.directory} holds another sweep ({before['command']}); "
                f"resume that one with python -m batchopt.resume {sweep.directory}, or name "
                "another directory"
            )
        write_json(path, before | launcher)
        return True
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "created_at": _now(),
            "command": command,
            "cwd": str(Path.cwd()),
            **launcher,
            # The runs of a search are not known yet: `add_to_search` adds each as it starts.
            **({"search": jobs, "jobs": []} if sweep.search else {"jobs": jobs}),
        },
    )
    return False


def add_to_search(request: RunRequest, number: int | None) -> None:
    """Adds a run that starts to the plan of its search; does nothing for any other run."""
    directory = request.run_dir.parent
    if "search" not in (read_plan(directory) or {}):
        return
    with FileLock(directory / ".sweep.lock"):  # runs may start side by side
        plan = _plan(directory)
        names = [job["run_dir"] for job in plan["jobs"]]
        if request.run_dir.name not in names:
            plan["jobs"].append(_planned(request, number, request.run_dir.name))
            write_json(directory / SWEEP, plan)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def what_is_left(sweep: Sweep, fingerprints: Mapping[str, str]) -> list[Left]:
    """Looks at each run of a sweep that is started again; moves nothing.

    Args:
        sweep: The sweep as it is asked for now.
        fingerprints: The fingerprint of the data as they are now, by run directory.

    Raises:
        RequestError: Somebody runs one of them at this moment.
    """
    code = code_hash()
    return [look_at(job.request, fingerprints.get(job.run_dir), code) for job in sweep.jobs]


def reopen(directory: Path, left: Sequence[Left]) -> None:
    """Makes room in a sweep for what is run again, and notes in sweep.json what is not.

    What is stale or was completed is put aside, to be run anew from the start. What was
    interrupted or failed stays where it is and goes on from its last checkpoint.
    """
    plan = read_plan(directory)
    if plan is not None:
        kept = [run.run_dir.name for run in left if not run.again]
        write_json(directory / SWEEP, plan | {"kept": kept})
    for run in left:
        sweep_up(run.run_dir)
        if run.again and run.state in ("stale", "completed"):
            aside = run.run_dir.parent / STALE
            aside.mkdir(exist_ok=True)
            taken = sum(1 for _ in aside.glob(f"{run.run_dir.name}.*"))
            shutil.move(run.run_dir, aside / f"{run.run_dir.name}.{taken + 1}")


def is_kept(run_dir: Path) -> bool:
    """Whether the sweep that goes on now leaves this run as it is."""
    plan = read_plan(run_dir.parent)
    kept = None if plan is None else plan.get("kept")
    return isinstance(kept, list) and run_dir.name in kept


def is_over(run_dir: Path, retry: Sequence[str]) -> str | None:
    """The status of a run that is not to be run again; None where there is something to do."""
    record = read_record(run_dir)
    if record is None or record["status"] in retry:
        return None
    return str(record["status"])


def _plan(directory: Path) -> dict[str, Any]:
    plan = read_plan(directory)
    assert plan is not None
    return plan


def read_results(directory: Path) -> list[RunResult]:
    """Reads how every planned run of a sweep ended."""
    names = [job["run_dir"] for job in _plan(directory)["jobs"]]
    return [read_result(directory / name, name) for name in names]


def read_result(run_dir: Path, name: str) -> RunResult:
    """Reads how one run ended."""
    try:
        record = read_record(run_dir)
    except RequestError as error:
        return RunResult(name, "", "missing", str(error), {})
    if record is None:
        return RunResult(name, "", "missing", "it left no record", {})
    plan = section(record, "plan")
    per_device, accumulation = (
        plan.get(key) for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    pair = f"{per_device} x {accumulation}" if per_device and accumulation else ""
    cause = str(record.get("cause") or "")
    return RunResult(name, pair, record["status"], cause, section(record, "metrics"))


def exit_code(results: list[RunResult]) -> int:
    """0 where every run ended as a result; 1 where one failed, was stopped or is missing.

    Out of memory, a timeout and a kill are results: they say something about the preset.
    """
    return int(any(r.status in ("failed", "interrupted", "missing") for r in results))


def _planned(request: RunRequest, number: int | None, run_dir: str) -> dict[str, Any]:
    """A run as sweep.json has it."""
    return {
        "number": number,
        "overrides": list(request.overrides),
        "run_dir": run_dir,
        "preset": request.preset,
        "seed": request.config.seed,
        **_pair(request),
        "effective_batch_size": request.config.batch.effective_batch_size,
    }


def _pair(request: RunRequest) -> dict[str, int | None]:
    plan = request.plan
    return {
        "per_device_train_batch_size": plan.per_device_train_batch_size if plan else None,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps if plan else None,
    }


def _what_runs(jobs: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [
        (
            job["run_dir"],
            [word for word in job["overrides"] if not word.startswith(_CHANGES_NO_RUN)],
        )
        for job in jobs
    ]


def look_at(request: RunRequest, fingerprint: str | None, code: str) -> Left:
    """What a run is found to be, against the request, the data and the code as they are now.

    Raises:
        RequestError: Somebody runs it at this moment.
    """
    run_dir, retry = request.run_dir, request.config.sweep.retry
    record = read_record(run_dir)
    running = read_running(run_dir) if record is None else None
    if running is not None:
        _refuse_if_running(run_dir, running)
    # A run that was cut short may have checkpoints, which are of one config, data and code too.
    begun = record or running or {}
    differing = [
        name
        for name, then, now in (
            ("config", begun.get("config_hash"), config_hash(request.config)),
            ("data", begun.get("data_fingerprint"), fingerprint),
            ("code of batchopt", begun.get("code_hash"), code),
        )
        if None not in (then, now) and then != now
    ]
    if differing:
        reason = f"its {' and '.join(differing)} differ from now"
        return Left(run_dir, "stale", reason, "stale" in retry)
    if record is None:
        return Left(run_dir, "missing", "", "missing" in retry)
    status = record["status"]
    return Left(run_dir, status, str(record.get("cause") or ""), status in retry)


def _refuse_if_running(run_dir: Path, running: Mapping[str, Any]) -> None:
    if is_here(running) and running["pid"] != os.getpid() and lives(running):
        raise RequestError(
            f"{run_dir} is being run by process {running['pid']}; wait for it, or stop it"
        )
