"""Reads sweeps and runs into one `Run` for every planned run.

A run that never started, was killed or left a damaged record is a `Run` too, with a status and a
cause. Only a damaged sweep.json, or a path without any run, is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.reading.config import parse_config, read_config
from batchopt.errors import RequestError
from batchopt.record import files, read
from batchopt.record.documents import RECORD_VERSION, PlannedRun, is_number
from batchopt.record.statuses import Phase, Status

TRAINING = ("step", "train_time_s", "train_loss")
EVALUATION = ("step", "train_time_s", "rouge_f1")
MEMORY = ("time_s", "memory_bytes", "training")
SCORES = ("rouge1_f1", "rouge2_f1", "rougeL_f1")

MEMORY_SAMPLES = 400
"""Samples of one run. Of more, each stretch keeps its highest, so that no peak is lost."""


@dataclass(frozen=True, slots=True)
class Run:
    """One planned run, with the names and units of its files; None is unknown or not measured."""

    sweep: str
    number: int | None
    """Number of the job in its sweep; None for a run of its own."""
    run_dir: str
    """Path below the sweep."""
    preset: str | None
    seed: int | None
    overrides: tuple[str, ...]
    status: str
    cause: str | None
    plan: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    data_fingerprint: str | None = None
    training: Sequence[Mapping[str, float]] = ()
    """Logged steps: step, train_time_s, train_loss."""
    evaluations: Sequence[Mapping[str, float]] = ()
    """step, train_time_s, rouge_f1."""
    memory: Sequence[Mapping[str, float]] = ()
    """Samples: time_s, memory_bytes, training (1 in that phase, else 0)."""
    examples: tuple[str, ...] = ()
    """Ids of the validation examples of the last evaluation."""
    scores: Sequence[float] = ()
    """ROUGE F1 of each of them."""
    config: Mapping[str, str] = field(default_factory=dict)
    """The composed config as dotted keys and plain values; empty if it was never composed."""
    started_at: str | None = None
    """ISO 8601."""
    ended_at: str | None = None
    newer_schema: int | None = None
    """The version of a record that is newer than this analysis."""
    directory: Path | None = None
    """The directory of its files."""

    @property
    def completed(self) -> bool:
        """Whether the run came to its planned end."""
        return self.status == Status.completed

    @property
    def timing_untrusted(self) -> tuple[str, ...]:
        """What disturbed the timing, so that the run is not ranked; empty if nothing did."""
        return tuple(self.metrics.get("timing_untrusted") or ())

    @property
    def requested(self) -> Mapping[str, Any] | None:
        """The pair that was asked for, if another one was run."""
        return self.plan.get("requested")


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep, or a single run as a sweep of one."""

    path: str
    command: str | None
    runs: tuple[Run, ...]


def newest_sweep(root: Path) -> Path:
    """Finds the sweep below `root` that was planned last.

    Raises:
        RequestError: There is none.
    """
    newest = read.newest_sweep(root)
    if newest is None:
        raise RequestError(
            f"sweep: no sweep under {_shown(root)} in {Path.cwd()}; a sweep is a directory with a "
            "sweep.json. Make one with: python -m batchopt.train -m batch=05a,05b,05c, or name "
            "one, or single runs, with sweep=PATH[,PATH]"
        )
    return newest


def read_sweeps(paths: Sequence[Path]) -> tuple[Sweep, ...]:
    """Reads everything below the named paths: sweeps, single runs, or trees of them.

    Args:
        paths: Directories.

    Raises:
        RequestError: A path that is not there or holds no run, or a damaged sweep.json.
    """
    found: dict[Path, Sweep] = {}
    for path in paths:
        if not path.is_dir():
            raise RequestError(
                f"sweep: {path} is not a directory; name a sweep (it has sweep.json), a run (it "
                "has record.json) or a directory that holds some"
            )
        directories = list(read.find_runs(path))
        if not directories:
            raise RequestError(
                f"sweep: {path} holds no run; a sweep has sweep.json, a run has record.json. List "
                "what there is with: ls -d multirun/*/*"
            )
        for directory in directories:
            if directory.resolve() not in found:
                found[directory.resolve()] = _read_sweep(directory)
    return tuple(found.values())


def _read_sweep(directory: Path) -> Sweep:
    """Reads a sweep, or a run of its own as a sweep of one."""
    try:
        plan = read.read_plan(directory)
    except RequestError as error:
        raise RequestError(f"sweep: {error}") from error
    if plan is None:
        run = _read_run(directory, _shown(directory.resolve().parent), None)
        return Sweep(path=_shown(directory), command=None, runs=(run,))
    if not plan.jobs:
        raise RequestError(f"sweep: {directory / files.SWEEP} plans no job; name another sweep")
    shown = _shown(directory)
    runs = tuple(_read_run(directory / job.run_dir, shown, job) for job in plan.jobs)
    return Sweep(path=shown, command=plan.command, runs=runs)


def _read_run(directory: Path, sweep: str, planned: PlannedRun | None) -> Run:
    run = read.read_planned_run(directory, planned)
    record, status, cause = run.final, run.status, run.cause or None
    if status not in list(Status):  # of a newer batchopt
        status, cause = Status.failed, f"{status}, which this batchopt does not know: {cause}"
    overrides = (record and record.overrides) or (planned and planned.overrides) or ()
    scored = [
        (str(row.get("id")), sum(values.values()) / len(values))
        for row in run.predictions()
        if (values := _numbers(row, SCORES))
    ]
    return Run(
        sweep=sweep,
        number=planned.number if planned else None,
        run_dir=planned.run_dir if planned else run.name,
        preset=run.preset,
        seed=run.seed,
        overrides=overrides,
        status=status,
        cause=cause,
        plan=run.plan,
        metrics=run.metrics,
        environment=record.environment if record else {},
        data=(record and record.data) or {},
        model=(record and record.model) or {},
        data_fingerprint=record.data_fingerprint if record else None,
        training=_rows(run.training(), TRAINING),
        evaluations=_rows(run.evaluations(), EVALUATION),
        memory=_read_memory(directory / files.MEMORY),
        examples=tuple(name for name, _ in scored),
        scores=tuple(score for _, score in scored),
        config=parse_config(read_config(directory / ".hydra" / "config.yaml")),
        started_at=record.started_at if record else None,
        ended_at=record.ended_at if record else None,
        newer_schema=record.schema_version
        if record and record.schema_version > RECORD_VERSION
        else None,
        directory=directory,
    )


def _rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, float]]:
    return [values for row in rows if (values := _numbers(row, names))]


def _read_memory(path: Path) -> list[dict[str, float]]:
    samples = [
        values | {"training": float(row.get("phase", Phase.train) == Phase.train)}
        for row in files.read_jsonl(path)
        if (values := _numbers(row, MEMORY[:2]))
    ]
    size = -(-len(samples) // MEMORY_SAMPLES)
    if size <= 1:
        return samples
    return [
        max(samples[start : start + size], key=lambda sample: sample["memory_bytes"])
        for start in range(0, len(samples), size)
    ]


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float] | None:
    """The values of these names; None if one is not a number."""
    values = {name: row.get(name) for name in names}
    return values if all(map(is_number, values.values())) else None  # type: ignore[return-value]


def _shown(path: Path) -> str:
    """The path as a person would write it from here."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else resolved)
