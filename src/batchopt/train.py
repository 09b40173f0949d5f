"""`python -m batchopt.train`: one run, or with -m a sweep.

The straight line: words -> checked requests -> shared preparation -> Hydra runs the jobs, each
trained and recorded in a process of its own -> a table of what came of it.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser

from batchopt import __version__, completion, lease, lifeline, preflight, trackers
from batchopt.cli import INTERRUPTED, OK, WRONG_REQUEST, Parser, answer
from batchopt.compose import (
    RunRequest,
    Sweep,
    accept_plus,
    compose_run,
    compose_sweep,
    conf_dir,
    name_divisors,
    quoted,
    register_schemas,
)
from batchopt.config import Config
from batchopt.device import find_device
from batchopt.disk import check_disk
from batchopt.environment import code_hash
from batchopt.errors import RequestError
from batchopt.help import help_text
from batchopt.job import run_job
from batchopt.nvml import NvmlError
from batchopt.objective import read_objectives
from batchopt.prepare import prepare_shared
from batchopt.run_files import RECORD, SWEEP, VERIFY
from batchopt.settle import settle
from batchopt.slurm import masters, sweep_jobs
from batchopt.summary import print_best, print_plan, print_summary
from batchopt.sweep import (
    Left,
    exit_code,
    look_at,
    read_result,
    read_results,
    reopen,
    what_is_left,
    write_plan,
)
from batchopt.wording import field_names


def main(words: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    words = _flags_first(name_divisors([accept_plus(word) for word in words]))
    arguments = _parse(words)
    answered = _answer(arguments, words)
    if answered is not None:
        return answered
    command = shlex.join(["python", "-m", "batchopt.train", *words])
    if arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides:
        return _sweep(words, arguments.overrides, command)
    return _single(compose_run(arguments.overrides), words)


def _answer(arguments: argparse.Namespace, words: list[str]) -> int | None:
    """Answers what asks about batchopt or the config and runs nothing; None: it is to run."""
    if arguments.config_name is not None:
        raise RequestError(
            f"--config-name={arguments.config_name}: there is one config; groups and keys say what "
            "differs, and 'hydra.searchpath=[file:///FOLDER]' adds choices of your own"
        )
    if arguments.help:
        print(help_text())
    elif arguments.version:
        print(f"batchopt {__version__}")
    elif arguments.shell_completion and "install=bash" in arguments.overrides:
        print(completion.BASH)
    elif arguments.shell_completion or arguments.hydra_help or arguments.info:
        os.environ["COMP_LINE"] = completion.plain_line(os.environ)
        return _hydra(words)
    elif arguments.cfg:
        compose_run(arguments.overrides)  # refuses in one line what Hydra would refuse in ten
        return _hydra(words)
    else:
        return None
    return OK


def _flags_first(words: list[str]) -> list[str]:
    """Lets `seed=1 -m batch=05a,05b` be written; argparse wants the flags before all overrides."""
    return sorted(words, key=lambda word: "=" in word and not word.startswith("-"))


def _parse(words: list[str]) -> argparse.Namespace:
    # Hydra's own flags, with our way to refuse.
    keys = "|".join(field_names(Config))
    dashed = [word for word in words if re.match(rf"-+({keys})[.=]", word)]
    if dashed:
        raise RequestError(f"{dashed[0]}: no such flag; as a key: {dashed[0].lstrip('-')}")
    parser = Parser(parents=[get_args_parser()], add_help=False, conflict_handler="resolve")
    parser.add_argument("--version", action="store_true")
    return parser.parse_args(words)


def _single(request: RunRequest, words: list[str]) -> int:
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
    code = _hydra([*words, quoted("hydra.run.dir", request.run_dir)])
    result = read_result(request.run_dir, str(request.run_dir))
    print_summary([result])
    print(f"record: {request.run_dir / RECORD}")
    return code or exit_code([result])


def _sweep(words: list[str], overrides: list[str], command: str) -> int:
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
    code = _hydra([*words, *sweep.hydra_overrides])
    if sweep.on_slurm:
        if code == WRONG_REQUEST:  # sbatch refused: nothing is to stand in the way of the next try
            if not goes_on:
                (sweep.directory / SWEEP).unlink()
            return code
        if code == INTERRUPTED or not sweep.launcher.get("wait", True):
            print(f"follow: python -m batchopt.status {sweep.directory}")
            print(f"then: python -m analysis sweep={sweep.directory}   (also while runs go on)")
            return code
        settle(sweep.directory)
    results = read_results(sweep.directory)
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
    settle(sweep.directory)
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


def _hydra(words: list[str]) -> int:
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


if __name__ == "__main__":
    sys.exit(answer(main))
