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

from analysis.reading.config import parse_config, read_config
from batchopt.errors import RequestError

SCHEMA_VERSION = 1
STATUSES = ("completed", "oom", "failed", "killed", "timeout", "interrupted", "running", "missing")
PLAN_KEYS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "effective_batch_size",
)
_NUMBERS = """
    peak_memory_bytes mean_memory_bytes baseline_memory_bytes peak_allocated_bytes
    peak_reserved_bytes steps_per_second samples_per_second tokens_per_second padding_fraction
    step_time_q1_s step_time_median_s step_time_q3_s data_wait_s forward_s backward_s optimizer_s
    warmup_steps_left_out train_time_s eval_time_s total_time_s train_loss eval_loss rouge1_f1
    rouge2_f1 rougeL_f1 rouge_f1 initial_rouge_f1 best_rouge_f1 best_step energy_j mfu
    gradient_noise_scale
"""
NUMBERS = frozenset(_NUMBERS.split())
"""Metrics that are read as numbers; others may be anything, and newer batchopts add some."""

TRAINING = ("step", "train_time_s", "train_loss")
EVALUATION = ("step", "train_time_s", "rouge_f1")
MEMORY = ("time_s", "memory_bytes", "training")
SCORES = ("rouge1_f1", "rouge2_f1", "rougeL_f1")

MEMORY_SAMPLES = 400
"""Of one run: of more the highest in each stretch is kept, so that no peak is lost."""


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
    """The composed config as dotted keys and plain values; empty where it was never composed."""
    started_at: str | None = None
    """ISO 8601."""
    ended_at: str | None = None
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
        _version(plan, path)
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
    try:
        known = _read_record(path, planned) if path.exists() else _without_record(directory)
    except ValueError as error:
        known = {"status": "failed", "cause": str(error)}
    training, evaluations = [], []
    for row in _read_lines(directory / "metrics.jsonl"):
        if row.get("kind") == "train" and (values := _numbers(row, TRAINING)):
            training.append(values)
        elif row.get("kind") == "evaluation" and (values := _numbers(row, EVALUATION)):
            evaluations.append(values)
    scored = [
        (str(row.get("id")), sum(values.values()) / len(values))
        for row in _read_lines(directory / "predictions.jsonl")
        if (values := _numbers(row, SCORES))
    ]
    return Run(
        **{**planned, **known, "sweep": sweep},
        config=parse_config(read_config(directory / ".hydra" / "config.yaml")),
        training=training,
        evaluations=evaluations,
        memory=_read_memory(directory / "memory.jsonl"),
        examples=tuple(name for name, _ in scored),
        scores=tuple(score for _, score in scored),
        directory=directory,
    )


def _read_memory(path: Path) -> list[dict[str, float]]:
    samples = [
        values | {"training": float(row.get("phase", "train") == "train")}
        for row in _read_lines(path)
        if (values := _numbers(row, MEMORY[:2]))
    ]
    size = -(-len(samples) // MEMORY_SAMPLES)
    if size <= 1:
        return samples
    return [
        max(samples[start : start + size], key=lambda sample: sample["memory_bytes"])
        for start in range(0, len(samples), size)
    ]


def _read_record(path: Path, planned: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a record into the fields of a `Run`.

    Raises:
        ValueError: The file is damaged; the message names it.
    """
    record = _load(path)
    version = _version(record, path)
    status = record.get("status")
    if status not in STATUSES:
        raise ValueError(f"{path}: status is {status!r}; it must be one of {', '.join(STATUSES)}")
    sections = {name: record.get(name) or {} for name in ("plan", "metrics", "environment")}
    sections |= {name: record.get(name) or {} for name in ("data", "model")}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise ValueError(f"{path}: {name} must be an object")
    for name, value in sections["metrics"].items():
        if value is not None and name in NUMBERS and not _is_number(value):
            raise ValueError(f"{path}: metrics.{name} is {value!r}; it must be a number or null")
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
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "newer_schema": version if version > SCHEMA_VERSION else None,
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


def _version(document: Mapping[str, Any], path: Path) -> int:
    """The schema of a document; one of a newer batchopt is read as far as it is known."""
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{path}: schema_version is {version!r}; it must be a whole number from 1")
    return version


def _read_lines(path: Path) -> Sequence[Any]:
    """The objects of a file of JSON lines; a line that was torn by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    try:
        # All at once is twice as fast, and right where each line is one value.
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        rows = []
    if len(rows) != len(lines):
        rows = [row for line in lines if (row := _parse(line)) is not None]
    return [row for row in rows if isinstance(row, dict)]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode(errors="replace"))
    except ValueError:
        return None


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, float] | None:
    """The values of these names; None where one is no number."""
    values = {name: row.get(name) for name in names}
    return values if all(map(_is_number, values.values())) else None  # type: ignore[return-value]


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)  # bool is no number here


def _shown(path: Path) -> str:
    """The path as a person would write it from here."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else resolved)
