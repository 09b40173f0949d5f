"""record.json, running.json and sweep.json as dataclasses.

A document of this version or of an older one must have the right types. In a newer document, a
value of another type counts as unknown. Unknown keys are ignored.
"""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from batchopt.record.metrics import METRICS, WORDS
from batchopt.record.statuses import Status

RECORD_VERSION = 2
"""`schema_version` of record.json. Version 1 had no attempts, no phase and no hash of the code."""

SWEEP_VERSION = 1
"""`schema_version` of sweep.json."""

BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "effective_batch_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One training process of a run: its batch, how it ended, and what was measured of it."""

    started_at: str
    ended_at: str | None = None
    status: str
    cause: str | None = None
    phase: str | None = None
    step: int | None = None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    duration_s: float
    peak_memory_bytes: int | None = None
    mean_memory_bytes: float | None = None
    eval_peak_memory_bytes: int | None = None
    memory_source: str | None = None
    energy_j: float | None = None
    mean_power_w: float | None = None
    mean_utilization: float | None = None
    peak_temperature_c: float | None = None
    timing_untrusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """record.json: how a run ended, and every final number.

    `attempts` is None where a newer batchopt wrote attempts that this one cannot read.
    """

    schema_version: int = RECORD_VERSION
    status: str
    cause: str | None = None
    phase: str | None = None
    step: int | None = None
    started_at: str | None = None
    ended_at: str | None = None
    preset: str | None = None
    seed: int | None = None
    sequence: int | None = None
    """Its place among the runs of its sweep in time, from 0; None for a single run."""
    overrides: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] | None = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None
    data_fingerprint: str | None = None
    config_hash: str | None = None
    code_hash: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """running.json: a run that has no record yet. The file's age is the run's sign of life."""

    pid: int | None = None
    hostname: str | None = None
    started_at: str | None = None
    slurm_job_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    attempt_started_at: str | None = None
    config_hash: str | None = None
    code_hash: str | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    gradient_checkpointing: bool | None = None
    device_uuid: str | None = None
    device_name: str | None = None
    optimizer_steps: int | None = None
    threads: int | None = None
    """Of torch, on the CPU: a run that goes on computes with as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of sweep.json. The pair is None for batch=auto.

    `number` counts the runs as typed, `sequence` in the order in which they start, both from 0.
    """

    number: int | None = None
    sequence: int | None = None
    overrides: tuple[str, ...]
    run_dir: str
    preset: str | None = None
    seed: int | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    effective_batch_size: int | None = None

    @property
    def place(self) -> int:
        """Its place among the runs in time; before there was an order, they ran as typed."""
        place = self.number if self.sequence is None else self.sequence
        return 0 if place is None else place


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """sweep.json: every planned run, and the process that starts them.

    The runs of a search are unknown before they start: `search` holds those that were checked, and
    `jobs` grows. `order` is sweep.order; None in sweeps from before there was one, which ran as
    typed. `threads` is what was chosen for all runs on the CPU of this machine, and why. `kept`
    names the runs that a resumed sweep leaves as they are.
    """

    schema_version: int = SWEEP_VERSION
    created_at: str | None = None
    command: str
    cwd: str | None = None
    pid: int | None = None
    hostname: str | None = None
    launched_at: str | None = None
    order: str | None = None
    threads: Mapping[str, Any] | None = None
    search: tuple[PlannedRun, ...] | None = None
    jobs: tuple[PlannedRun, ...]
    kept: tuple[str, ...] = ()


def parse_record(document: Mapping[str, Any]) -> Record:
    """Reads the object of record.json.

    Raises:
        ValueError: A key has a wrong value; the message gives the key, the value and the rule.
    """
    newer = _version(document) > RECORD_VERSION
    record = _parse(Record, document, newer)
    if not newer and record.status not in list(Status):
        words = ", ".join(Status)
        raise ValueError(f"status is {_shown(record.status)}; it must be one of {words}")
    return replace(
        record,
        plan=_checked("plan", record.plan, dict.fromkeys(BATCH, int), newer),
        metrics=_checked("metrics", record.metrics, _METRIC_KINDS, newer),
    )


def parse_running(document: Mapping[str, Any]) -> Running:
    """Reads the object of running.json; raises as `parse_record`."""
    return _parse(Running, document, newer=False)


def parse_plan(document: Mapping[str, Any]) -> SweepPlan:
    """Reads the object of sweep.json; raises as `parse_record`."""
    return _parse(SweepPlan, document, _version(document) > SWEEP_VERSION)


_Document = TypeVar("_Document")
_RULES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_METRIC_KINDS: dict[str, Any] = dict.fromkeys(METRICS, float) | dict.fromkeys(WORDS, str)
_METRIC_KINDS["timing_untrusted"] = tuple[str, ...]


def _version(document: Mapping[str, Any]) -> int:
    version = document.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version is {_shown(version)}; it must be a whole number from 1")
    return version


def _parse(kind: type[_Document], document: Mapping[str, Any], newer: bool) -> _Document:
    """Makes a dataclass of an object; a key that is absent or null keeps its default."""
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]
        value = document.get(one.name)
        required = one.default is MISSING and one.default_factory is MISSING
        if value is None and not required:
            continue
        try:
            values[one.name] = _convert(one.type, value, one.name)
        except ValueError:
            if required or not newer:
                raise
            if isinstance(one.type, UnionType):
                values[one.name] = None
    return kind(**values)


def _checked(
    name: str, section: Mapping[str, Any], kinds: Mapping[str, Any], newer: bool
) -> dict[str, Any]:
    """A section of a record with the known keys checked; None where a newer value differs."""
    checked = dict(section)
    for key in kinds.keys() & section.keys():
        try:
            if section[key] is not None:
                _convert(kinds[key], section[key], f"{name}.{key}")
        except ValueError:
            if not newer:
                raise
            checked[key] = None
    return checked


def is_number(value: object) -> bool:
    """Whether a JSON value is a number that a float can hold; true and false are not."""
    return isinstance(value, float | int) and (
        not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def _convert(kind: Any, value: Any, name: str) -> Any:
    """A JSON value as its type in a dataclass; lists become tuples."""
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse(kind, value, newer=False)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        item_kind = get_args(kind)[0]
        return tuple(_convert(item_kind, one, f"{name}[{at}]") for at, one in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return value
    if is_number(value) if kind is float else type(value) is kind:
        return value
    rule = "a list" if origin is tuple else _RULES.get(kind, "an object")
    raise ValueError(f"{name} is {_shown(value)}; it must be {rule}")


def _shown(value: object) -> str:
    """A value in an error message: one line of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
