"""A sweep's own files: what was planned, what came of it, and what is left to do."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.machine.environment import code_hash
from batchopt.record.files import SWEEP, sweep_up, write_json
from batchopt.record.read import is_here, lives, read_plan, read_record, read_running
from batchopt.request.compose import RunRequest
from batchopt.request.read_back import config_hash
from batchopt.request.sweep import Sweep

STALE = ".stale"
"""Folder of a sweep for runs that were run anew; nobody's results are thrown away."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a run of a sweep that is started again was found to be.

    `state` is a word of `sweep.retry`; `reason` says what differs in a stale one.
    """

    run_dir: Path
    state: str
    reason: str
    again: bool


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
