"""Starts one run or a sweep: check, prepare, verify, plan, hand over to Hydra, summarise."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import hydra

from batchopt.cli import INTERRUPTED, OK, WRONG_REQUEST
from batchopt.errors import RequestError
from batchopt.machine import lease, lifeline
from batchopt.machine.device import find_device
from batchopt.machine.environment import code_hash
from batchopt.machine.nvml import NvmlError
from batchopt.record.files import RECORD, SWEEP, VERIFY
from batchopt.record.read import read_planned_run, read_sweep
from batchopt.request.compose import RunRequest, conf_dir, register_schemas
from batchopt.request.objective import read_objectives
from batchopt.request.sweep import Sweep, compose_sweep
from batchopt.request.words import quoted
from batchopt.slurm import preflight
from batchopt.slurm.jobs import masters, sweep_jobs
from batchopt.slurm.missing_records import write_missing_records
from batchopt.sweeps.job import run_job
from batchopt.sweeps.left import Left, look_at, reopen, what_is_left
from batchopt.sweeps.plan import write_plan
from batchopt.sweeps.tables import exit_code, print_best, print_plan, print_summary
from batchopt.training import trackers
from batchopt.training.prepare import check_disk, prepare_shared


def run_single(request: RunRequest, words: list[str]) -> int:
    """Runs one run; returns the exit code."""
    for word in words:
        if word.startswith("hydra/launcher="):
            raise RequestError(f"{word} runs the jobs of a sweep; add -m")
    _check_device([request], words)
    trackers.check(request.config.tracker.name, os.environ)
    print_plan([request], [str(request.run_dir)])
    fingerprints = prepare_shared([request])
    check_disk([request], request.run_dir)
    if request.run_dir.exists():
        _reopen(request.run_dir.parent, [look_at(request, fingerprints[0], code_hash())])
    code = run_hydra([*words, quoted("hydra.run.dir", request.run_dir)])
    result = read_planned_run(request.run_dir)
    print_summary([result])
    print(f"record: {request.run_dir / RECORD}")
    return code or exit_code([result])


def run_sweep(words: list[str], overrides: list[str], command: str) -> int:
    """Runs a sweep; returns the exit code."""
    sweep = compose_sweep(overrides)
    if sweep.on_slurm and sweep.search:
        raise RequestError(
            "hydra/launcher=slurm does not wait for each result, which a search needs; run the "
            "search inside a job of your own (sbatch), with hydra/launcher=local_gpus there"
        )
    if sweep.on_slurm:
        _preflight(sweep)
    _check_device([job.request for job in sweep.jobs], overrides)
    for job in sweep.jobs:
        trackers.check(job.request.config.tracker.name, os.environ)
    if sweep.search:
        what = ", ".join(read_objectives(sweep.jobs[0].request.config.objective))
        print(
            f"search: by {what}; every value that is named is in one of these runs, which are "
            "checked and stand for those to come",
            flush=True,
        )
    print_plan([job.request for job in sweep.jobs], [job.run_dir for job in sweep.jobs])
    fingerprints = prepare_shared(job.request for job in sweep.jobs)
    check_disk([job.request for job in sweep.jobs], sweep.directory)
    goes_on, left = write_plan(sweep, command), []
    if goes_on:
        names = [job.run_dir for job in sweep.jobs]
        left = what_is_left(sweep, dict(zip(names, fingerprints, strict=True)))
    # A sweep that was killed while it was verified has not been.
    verified = goes_on and (sweep.directory / VERIFY).exists()
    if sweep.jobs[0].request.config.verify and not verified:
        _verify(sweep.directory, undo=not goes_on)
    _reopen(sweep.directory, left)
    code = run_hydra([*words, *sweep.hydra_overrides])
    if sweep.on_slurm:
        if code == WRONG_REQUEST:  # sbatch refused: nothing is to stand in the way of the next try
            if not goes_on:
                (sweep.directory / SWEEP).unlink()
            return code
        if code == INTERRUPTED or not sweep.launcher.get("wait", True):
            print(f"follow: python -m batchopt.status {sweep.directory}")
            print(f"then: python -m analysis sweep={sweep.directory}   (also while runs go on)")
            return code
        write_missing_records(sweep.directory)
    results = read_sweep(sweep.directory)
    print_summary(results)
    for objective in read_objectives(sweep.jobs[0].request.config.objective):
        print_best(results, objective)
    print(f"next: python -m analysis sweep={sweep.directory}   (or make analyze)")
    return code or exit_code(results)


def _reopen(directory: Path, left: Sequence[Left]) -> None:
    """Says what a sweep, or a run, that is started again will do, and makes room for it."""
    for run in left:
        reason = f" ({run.reason})" if run.reason else ""
        what = "runs" if run.again else "kept"
        print(f"{what}: {run.run_dir.name}: {run.state}{reason}", flush=True)
    reopen(directory, left)


def _check_device(requests: Iterable[RunRequest], words: list[str]) -> None:
    """Refuses a GPU that is not here, unless another machine is to run the jobs."""
    launchers = {word for word in words if word.startswith("hydra/launcher=")}
    if launchers - {"hydra/launcher=basic", "hydra/launcher=local_gpus"}:
        return
    lease.check()
    for request in requests:
        try:
            find_device(request.config.device.kind.value)
        except NvmlError as error:
            raise RequestError(f"device.kind is cuda: {error}; or set device.kind=auto") from error


def _preflight(sweep: Sweep) -> None:
    """Refuses jobs that this cluster cannot run, or that it still runs.

    Raises:
        RequestError: A line for each reason.
    """
    live = [job for job in sweep_jobs(sweep.directory) if job.state and not job.state.ended]
    if live:
        ids = masters(job.job_id for job in live if job.job_id)
        raise RequestError(
            f"{len(live)} runs of {sweep.directory} are still SLURM's (squeue --job={ids}); wait "
            f"for them, or end them with: scancel {ids}"
        )
    write_missing_records(sweep.directory)
    configs = [job.request.config for job in sweep.jobs]
    found = preflight.problems(
        sweep.launcher, {config.device.kind.value for config in configs}, sweep.batch_size
    )
    never, perhaps = preflight.unshared(preflight.paths_of(sweep.directory, configs))
    for line in perhaps:
        print(f"note: {line}")
    if found or never:
        raise RequestError("\nbatchopt: ".join(found + never))


def _verify(directory: Path, *, undo: bool) -> None:
    """Has a child prove that the planned runs are one training; ends here where they are not."""
    code = lifeline.run("batchopt.verify", ["--sweep", str(directory)])
    if code:
        if undo:  # nothing has run: the directory must not stand in the way of the next try
            (directory / SWEEP).unlink(missing_ok=True)
        raise SystemExit(code)


def run_hydra(words: list[str]) -> int:
    """Hands the command line to Hydra; returns an exit code."""
    register_schemas()
    sys.argv = [sys.argv[0], *words]
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(run_job)()
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as ending:  # Hydra has printed what it has to say
        return ending.code if isinstance(ending.code, int) else OK
    return OK
