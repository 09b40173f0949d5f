"""Starts one run or a sweep: check, prepare, verify, plan, hand over to Hydra, summarise."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra

from batchopt.cli import INTERRUPTED, OK, WRONG_REQUEST
from batchopt.errors import RequestError
from batchopt.machine import lease, lifeline
from batchopt.machine.device import find_device
from batchopt.machine.environment import code_hash
from batchopt.machine.nvml import NvmlError
from batchopt.machine.threads import Threads, Watch, again, choose
from batchopt.machine.torch_build import trains_on_cpu, why_unused
from batchopt.record.files import RECORD, SWEEP, VERIFY
from batchopt.record.read import read_plan, read_planned_run, read_sweep
from batchopt.request.compose import RunRequest, compose_run, conf_dir, register
from batchopt.request.objective import read_objectives
from batchopt.request.paths import check_writable
from batchopt.request.sweep import Sweep, compose_sweep
from batchopt.request.words import quoted
from batchopt.slurm import preflight
from batchopt.slurm.jobs import masters, sweep_jobs
from batchopt.slurm.missing_records import write_missing_records
from batchopt.sweeps.interrupt import HeldInterrupt
from batchopt.sweeps.job import run_job
from batchopt.sweeps.left import Left, look_at, reopen, what_is_left
from batchopt.sweeps.plan import keep_order, write_plan
from batchopt.sweeps.tables import (
    exit_code,
    print_best,
    print_order,
    print_plan,
    print_remedy,
    print_summary,
)
from batchopt.training import trackers
from batchopt.training.prepare import check_disk, prepare_shared


def run_single(words: list[str], overrides: list[str]) -> int:
    """Runs one run; returns the exit code.

    Args:
        words: The whole command line, flags first, for Hydra.
        overrides: Its words without the flags.
    """
    watch = Watch()
    request = compose_run(overrides)
    if not request.launcher.is_basic:
        raise RequestError(
            f"hydra/launcher={request.launcher.choice} runs the jobs of a sweep; add -m"
        )
    _check_machine([request], "hydra.run.dir", request.run_dir)
    print_plan([request], [str(request.run_dir)])
    if threads := _threads_of_run(request, watch):
        threads.announce()
    fingerprints = prepare_shared([request])
    check_disk([request], request.run_dir)
    if request.run_dir.exists():
        _reopen(request.run_dir.parent, [look_at(request, fingerprints[0], code_hash())])
    code = run_hydra([*words, quoted("hydra.run.dir", request.run_dir)], jobs_here=True)
    result = read_planned_run(request.run_dir)
    print_summary([result])
    print_remedy([result], request.run_dir)
    print(f"record: {request.run_dir / RECORD}")
    return code or exit_code([result])


def run_sweep(words: list[str], overrides: list[str], command: str) -> int:
    """Runs a sweep; returns the exit code.

    Args:
        words: The whole command line, flags first, for Hydra.
        overrides: Its words without the flags.
        command: The command line as text, for sweep.json.
    """
    watch = Watch()
    sweep = keep_order(compose_sweep(overrides))
    _check_sweep(sweep)
    _print_sweep(sweep)
    threads = _threads_of_sweep(sweep, watch)
    if threads:
        threads.announce()
    left, goes_on = _prepare_sweep(sweep, command, threads)
    _verify(sweep, goes_on=goes_on)
    _reopen(sweep.directory, left)
    code = run_hydra([*words, *sweep.hydra_overrides], jobs_here=sweep.launcher.is_basic)
    if sweep.launcher.on_slurm:
        if code == WRONG_REQUEST:  # sbatch refused; its words stand above
            if not goes_on:  # the next try may use the directory
                (sweep.directory / SWEEP).unlink()
            return code
        if code == INTERRUPTED or not sweep.launcher.options.get("wait", True):
            print(f"follow: python -m batchopt.status {shlex.quote(str(sweep.directory))}")
            print(f"then: {_analysis_of(sweep)}   (also while runs go on)")
            return code
        write_missing_records(sweep.directory)
    summarised = _summarise(sweep)
    return code or summarised


def run_hydra(words: list[str], *, jobs_here: bool = False) -> int:
    """Hands the command line to Hydra; returns an exit code.

    Args:
        words: The command line.
        jobs_here: Whether this process runs the jobs. Ctrl-C then waits until a job begins, since
            omegaconf fails where it is interrupted, and Hydra prints that failure.
    """
    register()
    sys.argv = [sys.argv[0], *words]
    task = hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
    try:
        if not jobs_here:
            task(run_job)()
            return OK
        with HeldInterrupt() as held:
            task(held.let_through(run_job))()
        if held.came:
            return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as ending:  # Hydra has printed what it has to say
        return ending.code if isinstance(ending.code, int) else OK
    return OK


def _check_sweep(sweep: Sweep) -> None:
    """Refuses a sweep that the launcher, the cluster or this machine cannot run."""
    if sweep.launcher.on_slurm and sweep.search:
        raise RequestError(
            "hydra/launcher=slurm does not wait for each result, which a search needs; run the "
            "search inside a job of your own (sbatch), with hydra/launcher=local_gpus there"
        )
    if sweep.launcher.on_slurm:
        _check_cluster(sweep)
    requests = [job.request for job in sweep.jobs]
    _check_machine(requests, "hydra.sweep.dir", sweep.directory)


def _check_machine(requests: Sequence[RunRequest], key: str, directory: Path) -> None:
    """Refuses what this machine lacks: a tracker, room to write, or a GPU that must be here.

    `key` is the key of the directory into which the runs write.
    """
    check_writable(key, directory)
    for request in requests:
        trackers.check(request.config.tracker.name, os.environ)
    if not requests[0].launcher.is_here:
        return
    lease.check()
    for kind in dict.fromkeys(request.config.device.kind.value for request in requests):
        try:
            device = find_device(kind)
        except NvmlError as error:
            raise RequestError(f"device.kind is cuda: {error}; or set device.kind=auto") from error
        if device is None and any(one.config.training.arguments.tf32 for one in requests):
            raise RequestError(
                "training.arguments.tf32 is true, and this machine has no GPU; leave it out"
            )
        if device is None or (why := why_unused(device)) is None:
            continue
        remedy = "python -m batchopt.doctor prints how to install the right build"
        if kind == "cuda":
            raise RequestError(f"device.kind is cuda, and {why}; {remedy}")
        print(f"note: the {device.name} is not used: {why}.", flush=True)
        print("      Runs train on the CPU.", flush=True)
        print(f"      {remedy}", flush=True)


def _check_cluster(sweep: Sweep) -> None:
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
        sweep.launcher.options, {config.device.kind.value for config in configs}, sweep.batch_size
    )
    never, perhaps = preflight.unshared(preflight.paths_of(sweep.directory, configs))
    for line in perhaps:
        print(f"note: {line}")
    if found or never:
        raise RequestError("\nbatchopt: ".join(found + never))


def _print_sweep(sweep: Sweep) -> None:
    """Prints the runs; those of a search stand for the ones that it will choose."""
    if sweep.search:
        metrics = ", ".join(read_objectives(sweep.jobs[0].request.config.objective))
        print(
            f"search: by {metrics}; every value that is named is in one of these runs, which are "
            "checked and stand for those to come",
            flush=True,
        )
    print_plan([job.request for job in sweep.jobs], [job.run_dir for job in sweep.jobs])
    if not sweep.search and len(sweep.jobs) > 1:
        print_order([job.sequence for job in sweep.jobs])


def _threads_of_sweep(sweep: Sweep, watch: Watch) -> Threads | None:
    """The threads of all runs, as chosen when the sweep began; None if they do not train here."""
    if not _train_here([job.request for job in sweep.jobs]):
        return None
    configured = dict.fromkeys(job.request.config.device.threads for job in sweep.jobs)
    before = read_plan(sweep.directory)
    if before is not None and before.threads is not None:
        return again(before.threads.get("count"), configured, os.environ)
    return choose(watch, configured, os.environ)


def _threads_of_run(request: RunRequest, watch: Watch) -> Threads | None:
    """The same for a single run; one that goes on has the threads that it had."""
    if not _train_here([request]):
        return None
    before = read_planned_run(request.run_dir)
    had = before.final.environment.get("threads") if before.final else None
    had = before.running.threads if before.running else had
    configured = [request.config.device.threads]
    if had is not None:
        return again(had, configured, os.environ)
    return choose(watch, configured, os.environ)


def _train_here(requests: Sequence[RunRequest]) -> bool:
    """Whether the runs train on the CPU of this machine."""
    devices = map(find_device, {request.config.device.kind.value for request in requests})
    return requests[0].launcher.is_here and all(map(trains_on_cpu, devices))


def _prepare_sweep(sweep: Sweep, command: str, threads: Threads | None) -> tuple[list[Left], bool]:
    """Prepares the data and writes sweep.json.

    Returns:
        What is left to do of a sweep that has begun before, and whether this one has.
    """
    fingerprints = prepare_shared(job.request for job in sweep.jobs)
    check_disk([job.request for job in sweep.jobs], sweep.directory)
    if not write_plan(sweep, command, threads):
        return [], False
    names = [job.run_dir for job in sweep.jobs]
    return what_is_left(sweep, dict(zip(names, fingerprints, strict=True))), True


def _verify(sweep: Sweep, *, goes_on: bool) -> None:
    """Proves on one step, unless verify=false, that the batches give the same gradient.

    Where they do not, a sweep that has not begun before leaves no sweep.json.

    Raises:
        SystemExit: They do not; the child has said so.
    """
    # A sweep that was killed during its verification has no verify.json.
    verified = goes_on and (sweep.directory / VERIFY).exists()
    if verified or not sweep.jobs[0].request.config.verify:
        return
    code = lifeline.run("batchopt.verify", ["--sweep", str(sweep.directory)])
    if code:
        if not goes_on:
            (sweep.directory / SWEEP).unlink(missing_ok=True)
        raise SystemExit(code)


def _reopen(directory: Path, left: Sequence[Left]) -> None:
    """Prints which runs of a sweep that has begun before run again, and makes room for them."""
    for run in left:
        reason = f" ({run.reason})" if run.reason else ""
        what = "runs" if run.again else "kept"
        print(f"{what}: {run.run_dir.name}: {run.state}{reason}", flush=True)
    reopen(directory, left)


def _summarise(sweep: Sweep) -> int:
    """Prints the results of a sweep; returns the exit code that they give."""
    results = read_sweep(sweep.directory)
    print_summary(results)
    print_remedy(results, sweep.directory)
    for objective in read_objectives(sweep.jobs[0].request.config.objective):
        print_best(results, objective)
    print(f"next: {_analysis_of(sweep)}   (or make analyze)")
    return exit_code(results)


def _analysis_of(sweep: Sweep) -> str:
    return shlex.join(["python", "-m", "analysis", f"sweep={sweep.directory}"])
