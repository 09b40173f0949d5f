"""Composes and checks all runs of a sweep before the first one starts."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from batchopt.errors import RequestError
from batchopt.request.compose import (
    RunRequest,
    choices_of,
    compose_config,
    composing,
    make_request,
    parse_overrides,
)
from batchopt.request.config import Order
from batchopt.request.hydra_section import read_hydra_path, read_hydra_value
from batchopt.request.launcher import Launcher
from batchopt.request.objective import directions, read_objectives
from batchopt.request.words import quoted

SWEEPER = "hydra_plugins.batchopt_sweeper.BatchoptSweeper"
"""Launches the runs in their order; Hydra's own sweeper knows only the order as typed."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep; `run_dir` is relative to the sweep's directory.

    `number` counts the runs as typed, and the name of the directory begins with it, so that a name
    says the same whatever the order. `sequence` is the place among the runs in time, from 0.
    """

    number: int
    sequence: int
    request: RunRequest
    run_dir: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs of one multirun, as typed; `Job.sequence` tells in which order they are launched.

    `order` is the value of sweep.order. `hydra_overrides` must be added to the command line, so
    that Hydra uses the same directories and order. `batch_size` is the number of jobs that the
    launcher gets at once. In a `search` a sweeper proposes each run from the results of earlier
    ones. The jobs then only stand for the runs to come: every value that the person named is in one
    of them.
    """

    directory: Path
    jobs: tuple[Job, ...]
    hydra_overrides: tuple[str, ...]
    launcher: Launcher
    batch_size: int
    order: str
    search: bool = False


def compose_sweep(overrides: Sequence[str]) -> Sweep:
    """Composes and checks every run of a sweep before any of them starts.

    Raises:
        RequestError: As `compose_run`, for the first run that cannot be.
    """
    with composing():
        overrides = [*_params(overrides), *overrides]
        parsed = parse_overrides(overrides)
        # The names of the run directories show only what varies.
        constant = [
            override.key_or_group  # without the plus, which override_dirname does not see either
            for override in parsed
            if not override.is_sweep_override() and override.key_or_group != "batch"
        ]
        exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"
        hydra_overrides: tuple[str, ...] = (exclude,) if constant else ()
        # Hydra would name the one run of a sweep of nothing "0_".
        if len(constant) == len(parsed) and "hydra.sweep.subdir" not in constant:
            name = "${hydra.job.num}_batch=${hydra.runtime.choices.batch}"
            hydra_overrides += (f"hydra.sweep.subdir='{name}'",)
        swept = [override for override in parsed if not _is_hydra(override)]
        search = any(_is_sweeper(override) for override in parsed)
        _refuse_nothing(swept)
        batches = _one_by_one(swept) if search else _every_combination(swept)
        own = [override.input_line or "" for override in parsed if _is_hydra(override)]
        jobs: list[Job] = []
        directory: Path | None = None
        for number, words in enumerate(batches):
            composed = compose_config([*words, *own, *hydra_overrides])
            OmegaConf.set_struct(composed, False)
            composed.hydra.job.num = number
            directory = directory or read_hydra_path(composed, "hydra.sweep.dir")
            batch_size = composed.hydra.sweeper.get("max_batch_size")
            run_dir = str(read_hydra_value(composed, "hydra.sweep.subdir") or "")
            if directory.resolve() not in (directory / run_dir).resolve().parents:
                raise RequestError(
                    f"hydra.sweep.subdir is {run_dir}; a run must stay inside its sweep"
                )
            request = make_request(composed, words, directory / run_dir)
            jobs.append(Job(number, number, request, run_dir))
        order = jobs[0].request.config.sweep.order
        if search:
            hydra_overrides += _directions(jobs[0].request, composed.hydra.sweeper, constant)
        else:
            _refuse_twins(jobs)
            hydra_overrides += (f"hydra.sweeper._target_={SWEEPER}",)
            if order is Order.blocked:
                numbers = seed_by_seed([job.request.config.seed for job in jobs])
                jobs = [replace(job, sequence=numbers.index(job.number)) for job in jobs]
    assert directory is not None
    return Sweep(
        directory=directory,
        jobs=tuple(jobs),
        hydra_overrides=(*hydra_overrides, quoted("hydra.sweep.dir", directory)),
        launcher=jobs[0].request.launcher,
        batch_size=min(len(jobs), batch_size or len(jobs)),
        order=order.value,
        search=search,
    )


def seed_by_seed(seeds: Sequence[int]) -> list[int]:
    """Puts the runs of a sweep in order, so that no setting has the early or the late places.

    A block is the runs of one seed. The order within it is drawn, and each further block begins
    later in it: over as many blocks as there are settings, each setting has every place once (a
    Latin square), and a speed that changes steadily cancels out. After as many blocks, the order is
    drawn anew. One block stays as typed.

    Args:
        seeds: The seed of each run as typed; every seed has the same settings in the same order.

    Returns:
        The numbers of the runs, first to last. The same seeds give the same order.
    """
    blocks: dict[int, list[int]] = {}
    for number, seed in enumerate(seeds):
        blocks.setdefault(seed, []).append(number)
    if len(blocks) == 1:
        return list(range(len(seeds)))
    settings = len(seeds) // len(blocks)
    draw = random.Random(repr([*blocks]))
    numbers: list[int] = []
    for begin in range(0, len(blocks), settings):
        square = [*blocks.values()][begin : begin + settings]
        drawn = draw.sample(range(settings), settings)
        for turn, block in enumerate(square):
            first = turn * settings // len(square)
            numbers += [block[at] for at in drawn[first:] + drawn[:first]]
    return numbers


def _refuse_nothing(overrides: list[Override]) -> None:
    """Refuses a sweep over no value: a range that ends before it begins, a glob without a match."""
    for override in overrides:
        if not override.is_sweep_override() or override.is_interval_sweep():
            continue
        try:
            values = list(override.sweep_iterator())
        except (HydraException, ValueError) as error:  # a range with steps of 0
            reason = str(error).splitlines()[0]
            raise RequestError(f"{override.input_line} names no values ({reason})") from error
        if not values:
            choices = choices_of(override.key_or_group)
            hint = (
                f"the choices are: {', '.join(choices)}"
                if choices
                else "name some, as in seed=1,2,3 or 'seed=range(1,4)', which ends before 4"
            )
            raise RequestError(f"{override.input_line} names no value; {hint}")


def _refuse_twins(jobs: Sequence[Job]) -> None:
    """Refuses two runs that are one and the same, or that would share a folder."""
    configs: dict[str, Job] = {}
    folders: dict[str, Job] = {}
    for job in jobs:
        twin = configs.setdefault(repr(job.request.config), job)
        if twin is not job:
            raise RequestError(
                f"{twin.run_dir} and {job.run_dir} are the same run twice ("
                f"{' '.join(job.request.overrides)}); name each value once, and for repetitions "
                "other seeds, as in seed=1,2,3"
            )
        if folders.setdefault(job.run_dir, job) is not job:
            raise RequestError(
                f"hydra.sweep.subdir is {job.run_dir} for several runs; leave it out, or put "
                "${hydra.job.num} into it"
            )


def _every_combination(overrides: list[Override]) -> list[list[str]]:
    try:
        batches = BasicSweeper.split_arguments(overrides, None)
    except HydraException as error:
        raise RequestError(
            "an interval has no end of values; name some, as in seed=1,2,3, or let a search choose "
            f"them with hydra/sweeper=optuna ({error})"
        ) from error
    return list(itertools.chain.from_iterable(batches))


def _one_by_one(overrides: list[Override]) -> list[list[str]]:
    """Lists runs that together name each value of a search, and both ends of each interval."""
    values = [(override.get_key_element(), _values(override)) for override in overrides]
    first = [f"{key}={own[0]}" for key, own in values]
    others = [
        [*first[:at], f"{key}={value}", *first[at + 1 :]]
        for at, (key, own) in enumerate(values)
        for value in own[1:]
    ]
    return [first, *others]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_interval_sweep():
        interval = override.value()
        assert isinstance(interval, IntervalSweep)
        return [str(interval.start), str(interval.end)]
    return list(override.sweep_string_iterator())


def _is_sweeper(override: Override) -> bool:
    return override.get_key_element() == "hydra/sweeper" and override.value() != "basic"


def _directions(
    request: RunRequest, sweeper: DictConfig, constant: Sequence[str]
) -> tuple[str, ...]:
    """Tells the sweeper which way each objective is better, or checks what the person told it."""
    names = read_objectives(request.config.objective)
    if not names:
        raise RequestError(
            "objective must be given for a search, as in objective=rouge_f1 or "
            "'objective=[rouge_f1,steps_per_second]'"
        )
    right = directions(names)
    if "hydra.sweeper.direction" not in constant:
        return (f"hydra.sweeper.direction=[{','.join(right)}]",)
    named = sweeper.direction if isinstance(sweeper.direction, ListConfig) else [sweeper.direction]
    asked = [getattr(direction, "name", direction) for direction in named]
    if asked != right:
        raise RequestError(
            f"hydra.sweeper.direction is {', '.join(asked)}, and {', '.join(names)} want "
            f"{', '.join(right)}; leave it out: it follows from objective"
        )
    return ()


def _params(overrides: Sequence[str]) -> list[str]:
    """Lists what an experiment sweeps over; Hydra's sweeper puts it before the person's words."""
    constant = [
        word.input_line or "" for word in parse_overrides(overrides) if not word.is_sweep_override()
    ]
    params = OmegaConf.select(compose_config(constant), "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def _is_hydra(override: Override) -> bool:
    return override.get_key_element().lstrip("+~").startswith("hydra")
