"""The attempts of a run: what earlier ones left, and what all of them add up to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.read import read_record, read_running

SCHEMA_VERSION = 2


_CUT = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
)

_OF_ATTEMPTS = (
    "peak_memory_bytes",
    "mean_memory_bytes",
    "eval_peak_memory_bytes",
    "memory_source",
    "energy_j",
    "mean_power_w",
    "mean_utilization",
    "peak_temperature_c",
    "timing_untrusted",
)


def earlier_attempts(run_dir: Path) -> list[dict[str, Any]]:
    """The attempts that a directory's files tell of; one without an end is ended here."""
    record = read_record(run_dir)
    if record is not None:
        return _attempts(record, run_dir / files.RECORD)
    running = read_running(run_dir)
    if running is None:
        return []
    attempts = _attempts(running, run_dir / files.RUNNING)
    number = len(attempts) + 1
    rows = [
        row
        for row in files.read_jsonl(run_dir / files.MEMORY)
        if row.get("attempt") == number and isinstance(row.get("time_s"), int | float)
    ]
    if not running.keys() >= {"attempt_started_at", *_CUT}:
        return attempts  # it never came to start a worker
    training = [row.get("memory_bytes") for row in rows if row.get("phase") == "train"]
    known = [value for value in training if isinstance(value, int)]
    earlier_s = sum(attempt["duration_s"] for attempt in attempts)
    lost: dict[str, Any] = dict.fromkeys(_OF_ATTEMPTS)
    lost |= {
        "started_at": running["attempt_started_at"],
        "ended_at": None,
        "status": "killed",
        "cause": "the process that supervised the run ended without a record",
        "phase": rows[-1].get("phase") if rows else "load",
        "step": None,
        **{name: running[name] for name in _CUT},
        "duration_s": max(0.0, rows[-1]["time_s"] - earlier_s) if rows else 0.0,
        "peak_memory_bytes": max(known, default=None),
        "mean_memory_bytes": int(fmean(known)) if known else None,
        "energy_j": rows[-1].get("energy_j") if rows else None,
        "timing_untrusted": [],
    }
    return [*attempts, lost]


def _attempts(document: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The attempts of a record or of running.json; none where they were not written yet.

    Raises:
        RequestError: They are not what this batchopt can go on from.
    """
    attempts = document.get("attempts", [])
    needed = {"status", "duration_s", *_CUT, *_OF_ATTEMPTS}
    if not isinstance(attempts, list) or not all(
        isinstance(one, dict) and one.keys() >= {*needed, "started_at"} for one in attempts
    ):
        raise RequestError(f"{path}: attempts cannot be read; move the run away to do it anew")
    return attempts


def over_attempts(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a run that are not those of its last attempt alone.

    Time and energy are what the run cost, all attempts together. Memory is that of the attempts
    that were cut as the last one was.
    """
    if not attempts:
        return {}
    cut = ("per_device_train_batch_size", "gradient_checkpointing")
    same = [one for one in attempts if all(one[name] == attempts[-1][name] for name in cut)]

    def values(name: str, of: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [one[name] for one in of if one[name] is not None]

    def highest(name: str) -> Any:
        return max(values(name, same), default=None)

    def mean(name: str, of: Sequence[Mapping[str, Any]]) -> float | None:
        weighed = [(one[name], one["duration_s"]) for one in of if one[name] is not None]
        seconds = sum(duration for _, duration in weighed)
        return sum(value * duration for value, duration in weighed) / seconds if seconds else None

    energy = values("energy_j", attempts)
    memory = mean("mean_memory_bytes", same)
    return {
        "peak_memory_bytes": highest("peak_memory_bytes"),
        "mean_memory_bytes": None if memory is None else int(memory),
        "eval_peak_memory_bytes": highest("eval_peak_memory_bytes"),
        # A part of the energy would read like all of it.
        "energy_j": sum(energy) if len(energy) == len(attempts) else None,
        "mean_power_w": mean("mean_power_w", attempts),
        "mean_utilization": mean("mean_utilization", same),
        "peak_temperature_c": highest("peak_temperature_c"),
        "timing_untrusted": list(
            dict.fromkeys(reason for one in same for reason in one["timing_untrusted"] or [])
        ),
        "total_time_s": sum(one["duration_s"] for one in attempts),
    }
