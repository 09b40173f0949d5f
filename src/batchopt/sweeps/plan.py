"""Writes sweep.json: every run of a sweep and its place in the order, before the first starts."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.machine.threads import Threads
from batchopt.record.documents import PlannedRun, SweepPlan
from batchopt.record.files import SWEEP, now, read_json, write_json
from batchopt.record.keys import Word, changes_no_number
from batchopt.record.read import read_plan
from batchopt.request.compose import RunRequest
from batchopt.request.config import Order
from batchopt.request.sweep import Sweep


def keep_order(sweep: Sweep) -> Sweep:
    """Gives each run of a sweep that has begun before the place that it has in sweep.json."""
    before = read_plan(sweep.directory)
    if before is None or before.search is not None:
        return sweep
    places = {job.run_dir: job.place for job in before.jobs}
    if set(places) != {job.run_dir for job in sweep.jobs}:
        return sweep  # another sweep, which `write_plan` refuses
    jobs = tuple(replace(job, sequence=places[job.run_dir]) for job in sweep.jobs)
    return replace(sweep, jobs=jobs, order=before.order or Order.as_given.value)


def planned_place(run_dir: Path) -> int | None:
    """The place of a run among those of its sweep in time, from 0; None if no sweep plans it."""
    plan = read_plan(run_dir.parent)
    jobs = () if plan is None else plan.jobs
    return next((job.place for job in jobs if job.run_dir == run_dir.name), None)


def write_plan(sweep: Sweep, command: str, threads: Threads | None = None) -> bool:
    """Writes sweep.json before the first run starts.

    Args:
        sweep: The sweep.
        command: The command line as text.
        threads: What was chosen for all runs; None where they do not train on this CPU.

    Returns:
        Whether the directory already holds this sweep, which then goes on.

    Raises:
        RequestError: The directory holds another sweep.
    """
    jobs = tuple(
        planned_run(job.request, job.number, job.sequence, job.run_dir) for job in sweep.jobs
    )
    # Names the process that starts the runs: others can tell whether a waiting run will start.
    launcher: dict[str, Any] = {
        "pid": os.getpid(),
        "hostname": os.uname().nodename,
        "launched_at": now(),
    }
    before = read_plan(sweep.directory)
    if before is not None:
        if sweep.search or before.search is not None:
            raise RequestError(
                f"hydra.sweep.dir: {sweep.directory} holds a search or other runs; a search that "
                "is to be carried on wants hydra.sweeper.storage, and a directory for each go"
            )
        if _what_runs(before.jobs) != _what_runs(jobs):
            raise RequestError(
                f"hydra.sweep.dir: {sweep.directory} holds another sweep ({before.command}); "
                f"resume that one with python -m batchopt.resume {sweep.directory}, or name "
                "another directory"
            )
        chosen = {"threads": threads.document()} if threads and before.threads is None else {}
        change_plan(sweep.directory, **launcher, **chosen)
        return True
    plan = SweepPlan(
        created_at=now(),
        command=command,
        cwd=str(Path.cwd()),
        **launcher,
        order=None if sweep.search else sweep.order,
        threads=threads.document() if threads else None,
        # The runs of a search are not known yet: `add_to_search` adds each as it starts.
        search=jobs if sweep.search else None,
        jobs=() if sweep.search else jobs,
    )
    document = {key: value for key, value in asdict(plan).items() if value is not None}
    write_json(sweep.directory / SWEEP, document)
    return False


def change_plan(directory: Path, **changes: Any) -> None:
    """Changes keys of sweep.json, and keeps those that a newer batchopt may have written."""
    write_json(directory / SWEEP, read_json(directory / SWEEP) | changes)


def planned_run(request: RunRequest, number: int | None, sequence: int, run_dir: str) -> PlannedRun:
    """A run as sweep.json has it."""
    plan = request.plan
    return PlannedRun(
        number=number,
        sequence=sequence,
        overrides=tuple(request.overrides),
        run_dir=run_dir,
        preset=request.preset,
        seed=request.config.seed,
        per_device_train_batch_size=plan.per_device_train_batch_size if plan else None,
        gradient_accumulation_steps=plan.gradient_accumulation_steps if plan else None,
        effective_batch_size=request.config.batch.effective_batch_size,
    )


def _what_runs(jobs: Sequence[PlannedRun]) -> list[Any]:
    return [
        (
            job.run_dir,
            [word for word in job.overrides if not changes_no_number(Word.parse(word).key)],
        )
        for job in jobs
    ]
