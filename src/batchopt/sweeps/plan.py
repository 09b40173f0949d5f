"""Writes sweep.json: every run of a sweep, before the first one starts."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.record.files import SWEEP, write_json
from batchopt.record.keys import Word, changes_no_number
from batchopt.record.read import read_plan
from batchopt.request.compose import RunRequest
from batchopt.request.sweep import Sweep

SCHEMA_VERSION = 1


def write_plan(sweep: Sweep, command: str) -> bool:
    """Writes sweep.json before the first run starts.

    Returns:
        Whether the directory holds this very sweep already, which then goes on.

    Raises:
        RequestError: The directory holds another sweep.
    """
    path = sweep.directory / SWEEP
    jobs = [planned_job(job.request, job.number, job.run_dir) for job in sweep.jobs]
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def existing_plan(directory: Path) -> dict[str, Any]:
    """The plan of a directory that holds one."""
    plan = read_plan(directory)
    assert plan is not None
    return plan


def planned_job(request: RunRequest, number: int | None, run_dir: str) -> dict[str, Any]:
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
            [word for word in job["overrides"] if not changes_no_number(Word.parse(word).key)],
        )
        for job in jobs
    ]
