"""Finds sweeps and runs on disk and reads their files: one `Run` for every planned run.

A run that never started, was killed or left a damaged record is a `Run` too, with the status and
the cause that its files speak for. Only a sweep that says nothing about its runs is an error.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import RequestError

SCHEMA_VERSION = 1
STATUSES = ("completed", "oom", "failed", "killed", "timeout", "interrupted", "running", "missing")
PLAN_KEYS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "effective_batch_size",
)
_NOT_NUMBERS: Mapping[str, type] = {
    "memory_source": str,
    "rouge_tokenizer": str,
    "energy_source": str,
    "timing_untrusted": list,
}
"""Metrics that are something else."""


@dataclass(frozen=True, slots=True)
class Run:
    """One planned run, with the names and units of its files; None is not known or not measured."""

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
    training: tuple[Mapping[str, Any], ...] = ()
    evaluations: tuple[Mapping[str, Any], ...] = ()
    memory: tuple[Mapping[str, Any], ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    """The composed config as dotted keys and plain values; empty where it was never composed."""
    newer_schema: int | None = None
    """The version of a record that is newer than this analysis."""
    directory: Path | None = None
    """Where its files are."""

    @property
    def completed(self) -> bool:
        """Whether the run came to its planned end."""
        return self.status == "completed"

    @property
    def timing_untrusted(self) -> tuple[str, ...]:
        """What disturbed the timing of the run, so that it is not ranked; empty: nothing."""
        return tuple(self.metrics.get("timing_untrusted") or ())

    @property
    def requested(self) -> Mapping[str, Any] | None:
        """The pair that was asked for, where another one was run."""
        return self.plan.get("requested")


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep, or a run of its own, as it was asked for."""

    path: str
    command: str | None
    runs: tuple[Run, ...]


def newest_sweep(root: Path) -> Path:
    """Finds the sweep below `root` that was planned last.

    Raises:
        RequestError: There is none.
    """
    plans = [path / "sweep.json" for path in _find(root) if (path / "sweep.json").exists()]
    if not plans:
        raise RequestError(
            f"sweep: no sweep under {_shown(root)} in {Path.cwd()}; a sweep is a directory with a "
            "sweep.json. Make one with: python -m batchopt.train -m batch=05a,05b,05c, or name one "
            "with sweep=PATH"
        )
    return max(plans, key=lambda path: (path.stat().st_mtime_ns, path)).parent


def read_sweeps(paths: Sequence[Path]) -> tuple[Sweep, ...]:
    """Reads everything below the named paths: sweeps, single runs, or trees of them.

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
        directories = list(_find(path))
        if not directories:
            raise RequestError(
                f"sweep: {path} holds no run; a sweep has sweep.json, a run has record.json. List "
                "what there is with: ls -d multirun/*/*"
            )
        for directory in directories:
            if directory.resolve() not in found:
                is_sweep = (directory / "sweep.json").exists()
                found[directory.resolve()] = (
                    _read_sweep(directory) if is_sweep else _read_single(directory)
                )
    return tuple(found.values())


def read_scores(run: Run) -> dict[str, float]:
    """ROUGE F1 of each validation example at the last evaluation, by the example's id."""
    if run.directory is None:
        return {}
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1")
    return {
        str(row.get("id")): sum(row[name] for name in names) / len(names)
        for row in _read_lines(run.directory / "predictions.jsonl")
        if _has(row, *names)
    }


def _find(directory: Path) -> Iterator[Path]:
    """Yields the sweeps and single runs at or below a directory, in order of their names."""
    if any((directory / name).exists() for name in ("sweep.json", "record.json", "running.json")):
        yield directory
        return
    if directory.is_dir():
        for child in sorted(directory.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _find(child)


def _read_sweep(directory: Path) -> Sweep:
    path = directory / "sweep.json"
    remedy = "run the sweep again, or name its runs (the directories with record.json) instead"
    try:
        plan = _load(path)
        _check_version(plan, path)
        jobs = [
            {
                "number": int(job["number"]),
                "run_dir": str(job["run_dir"]),
                "preset": job.get("preset"),
                "seed": job.get("seed"),
                "overrides": tuple(str(override) for override in job["overrides"]),
                "plan": {key: job.get(key) for key in PLAN_KEYS},
            }
            for job in plan["jobs"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"sweep: {path} does not hold the jobs of a sweep ({type(error).__name__}: {error}); "
            f"{remedy}"
        ) from error
    except ValueError as error:
        raise RequestError(f"sweep: {error}; {remedy}") from error
    if not jobs:
        raise RequestError(f"sweep: {path} plans no job; {remedy}")
    shown = _shown(directory)
    runs = tuple(_read_run(directory / job["run_dir"], shown, job) for job in jobs)
    return Sweep(path=shown, command=plan.get("command"), runs=runs)


def _read_single(directory: Path) -> Sweep:
    planned = {
        "number": None,
        "run_dir": directory.name or directory.resolve().name,
        "preset": None,
        "seed": None,
        "overrides": (),
        "plan": dict.fromkeys(PLAN_KEYS),
    }
    run = _read_run(directory, _shown(directory.resolve().parent), planned)
    return Sweep(path=_shown(directory), command=None, runs=(run,))


def _read_run(directory: Path, sweep: str, planned: dict[str, Any]) -> Run:
    path = directory / "record.json"
    known: dict[str, Any] = {**planned, "sweep": sweep}
    try:
        known |= _read_record(path, planned) if path.exists() else _without_record(directory)
    except ValueError as error:
        known |= {"status": "failed", "cause": str(error)}
    lines = list(_read_lines(directory / "metrics.jsonl"))
    return Run(
        **known,
        training=tuple(
            row
            for row in lines
            if row.get("kind") == "train" and _has(row, "step", "train_time_s", "train_loss")
        ),
        evaluations=tuple(
            row
            for row in lines
            if row.get("kind") == "evaluation" and _has(row, "step", "train_time_s", "rouge_f1")
        ),
        memory=tuple(
            row
            for row in _read_lines(directory / "memory.jsonl")
            if _has(row, "time_s", "memory_bytes")
        ),
        directory=directory,
    )


def _read_record(path: Path, planned: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a record into the fields of a `Run`.

    Raises:
        ValueError: The file is damaged or of a newer batchopt; the message names it.
    """
    record = _load(path)
    _check_version(record, path)
    status = record.get("status")
    if status not in STATUSES:
        raise ValueError(f"{path}: status is {status!r}; it must be one of {', '.join(STATUSES)}")
    sections = {name: record.get(name) or {} for name in ("plan", "metrics", "environment")}
    sections |= {name: record.get(name) or {} for name in ("data", "model")}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise ValueError(f"{path}: {name} must be an object")
    for name, value in sections["metrics"].items():
        kind = _NOT_NUMBERS.get(name)
        if value is not None and not (isinstance(value, kind) if kind else _is_number(value)):
            wanted = {str: "a text", list: "a list"}.get(kind, "a number")  # type: ignore[call-overload]
            raise ValueError(f"{path}: metrics.{name} is {value!r}; it must be {wanted} or null")
    whole = {"seed": record.get("seed")} | {
        f"plan.{key}": sections["plan"].get(key) for key in PLAN_KEYS
    }
    for name, value in whole.items():
        if not (value is None or (isinstance(value, int) and not isinstance(value, bool))):
            raise ValueError(f"{path}: {name} is {value!r}; it must be a whole number or null")
    return sections | {
        "plan": {**planned["plan"], **sections["plan"]},
        "preset": record.get("preset", planned["preset"]),
        "seed": record.get("seed", planned["seed"]),
        "overrides": tuple(record.get("overrides") or planned["overrides"]),
        "status": status,
        "cause": record.get("cause"),
        "data_fingerprint": record.get("data_fingerprint"),
    }


def _without_record(directory: Path) -> dict[str, str]:
    path = directory / "running.json"
    if not path.exists():
        return {"status": "missing", "cause": "never started"}
    running = _load(path)
    here = running.get("hostname") == os.uname().nodename
    if here and not _is_alive(running.get("pid")):
        return {
            "status": "killed",
            "cause": "the process that supervised the run ended without a record",
        }
    return {
        "status": "running",
        "cause": f"since {running.get('started_at')} on {running.get('hostname')}, "
        f"process {running.get('pid')}",
    }


def _is_alive(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True  # somebody else's, but there
    except (OSError, TypeError, ValueError, OverflowError):
        return False
    return True


def _load(path: Path) -> dict[str, Any]:
    """Reads a JSON object; the ValueError for anything else names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _check_version(document: Mapping[str, Any], path: Path) -> None:
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version is {version!r} and this analysis reads {SCHEMA_VERSION}"
        )


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file of JSON lines; a line that was torn by a kill is skipped."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _has(row: Mapping[str, Any], *names: str) -> bool:
    return all(_is_number(row.get(name)) for name in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(path: Path) -> str:
    """The path as a person would write it from here."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else resolved)
