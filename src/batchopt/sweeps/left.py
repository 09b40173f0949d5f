"""Decides which runs of a sweep run again when it restarts, and makes room for them."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchopt.errors import RequestError
from batchopt.machine.environment import code_hash
from batchopt.record.files import sweep_up
from batchopt.record.read import RunRecord, read_plan, read_planned_run, read_record
from batchopt.record.statuses import Status
from batchopt.request.compose import RunRequest
from batchopt.request.read_back import config_hash
from batchopt.request.sweep import Sweep
from batchopt.sweeps.plan import change_plan

STALE = "stale"
"""State of a run that another config, other data or other code made."""

STALE_FOLDER = ".stale"
"""Folder of a sweep for the old files of runs that run again; no results are deleted."""


@dataclass(frozen=True, slots=True)
class Left:
    """State of an existing run when its sweep restarts.

    `state` is a word of `sweep.retry`; `reason` is the cause of the status, or what is stale.
    """

    run_dir: Path
    state: str
    reason: str
    again: bool


def what_is_left(sweep: Sweep, fingerprints: Mapping[str, str]) -> list[Left]:
    """Looks at each run of a sweep that restarts; changes nothing.

    Args:
        sweep: The sweep as it is asked for now.
        fingerprints: The fingerprint of the data as they are now, by run directory.

    Raises:
        RequestError: A process runs one of them now, or a file is damaged.
    """
    code = code_hash()
    return [look_at(job.request, fingerprints.get(job.run_dir), code) for job in sweep.jobs]


def reopen(directory: Path, left: Sequence[Left]) -> None:
    """Makes room in a sweep for the runs that run again, and notes the others in sweep.json.

    A stale or completed run starts anew: its files are moved aside. An interrupted or failed run
    stays where it is, and goes on from its last checkpoint.
    """
    if read_plan(directory) is not None:
        change_plan(directory, kept=[run.run_dir.name for run in left if not run.again])
    for run in left:
        sweep_up(run.run_dir)
        if run.again and run.state in (STALE, Status.completed):
            aside = run.run_dir.parent / STALE_FOLDER
            aside.mkdir(exist_ok=True)
            taken = sum(1 for _ in aside.glob(f"{run.run_dir.name}.*"))
            shutil.move(run.run_dir, aside / f"{run.run_dir.name}.{taken + 1}")


def is_kept(run_dir: Path) -> bool:
    """Whether the sweep that restarted leaves this run as it is."""
    plan = read_plan(run_dir.parent)
    return plan is not None and run_dir.name in plan.kept


def is_over(run_dir: Path, retry: Sequence[str]) -> str | None:
    """The status of a run that does not run again; None if there is something to do."""
    record = read_record(run_dir)
    return None if record is None or record.status in retry else record.status


def look_at(request: RunRequest, fingerprint: str | None, code: str) -> Left:
    """The state of a run, compared with the request, the data and the code as they are now.

    Raises:
        RequestError: A process runs it now, or a file is damaged.
    """
    run_dir, retry = request.run_dir, request.config.sweep.retry
    run = read_planned_run(run_dir)
    if run.status == Status.failed and run.final is None:
        raise RequestError(run.cause)  # a damaged file
    if run.status == Status.running and not _is_own(run):
        raise RequestError(f"{run_dir} is being run ({run.cause}); wait for it, or stop it")
    # A run without a record may have checkpoints, which are of one config, data and code too.
    begun = run.final or run.running
    then = {
        "config": (begun and begun.config_hash, config_hash(request.config)),
        "data": (run.final and run.final.data_fingerprint, fingerprint),
        "code of batchopt": (begun and begun.code_hash, code),
    }
    differing = [name for name, (was, now) in then.items() if None not in (was, now) and was != now]
    if differing:
        reason = f"its {' and '.join(differing)} differ from now"
        return Left(run_dir, STALE, reason, STALE in retry)
    if run.final is None:
        return Left(run_dir, Status.missing, "", Status.missing in retry)
    return Left(run_dir, run.status, run.cause, run.status in retry)


def _is_own(run: RunRecord) -> bool:
    """Whether this process is noted: in a new container it may have the number of the old one."""
    noted = run.running
    return noted is not None and (noted.hostname, noted.pid) == (os.uname().nodename, os.getpid())
