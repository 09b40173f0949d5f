"""The attempts of a run: what earlier ones left, and what all of them add up to."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.documents import Attempt, Running
from batchopt.record.metrics import METRICS
from batchopt.record.read import KILLED, read_record, read_running
from batchopt.record.statuses import Phase, Status

MEASURED = tuple(one.name for one in fields(Attempt) if one.name in METRICS)
"""The metrics that each attempt has of its own."""


def earlier_attempts(run_dir: Path) -> list[Attempt]:
    """The attempts that a run's files tell of; the last one is `killed` if nobody recorded its end.

    Raises:
        RequestError: A file is damaged, or a newer batchopt wrote the attempts.
    """
    record = read_record(run_dir)
    if record is not None:
        if record.attempts is None:
            path = run_dir / files.RECORD
            raise RequestError(f"{path}: attempts cannot be read; move the run away to do it anew")
        return list(record.attempts)
    running = read_running(run_dir)
    if running is None:
        return []
    lost = _lost_attempt(run_dir, running)
    return [*running.attempts, *([] if lost is None else [lost])]


def _lost_attempt(run_dir: Path, running: Running) -> Attempt | None:
    """The attempt that ended with its supervisor; None if no training process was started."""
    started_at, checkpointing = running.attempt_started_at, running.gradient_checkpointing
    size, accumulation = running.per_device_train_batch_size, running.gradient_accumulation_steps
    if started_at is None or size is None or accumulation is None or checkpointing is None:
        return None
    number = len(running.attempts) + 1
    rows = [
        row
        for row in files.read_jsonl(run_dir / files.MEMORY)
        if row.get("attempt") == number and isinstance(row.get("time_s"), int | float)
    ]
    last = rows[-1] if rows else {}
    training = [row.get("memory_bytes") for row in rows if row.get("phase") == Phase.train]
    known = [value for value in training if isinstance(value, int)]
    earlier_s = sum(attempt.duration_s for attempt in running.attempts)
    return Attempt(
        started_at=started_at,
        status=Status.killed,
        cause=KILLED,
        phase=last.get("phase", Phase.load),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=checkpointing,
        duration_s=max(0.0, last.get("time_s", 0.0) - earlier_s),
        peak_memory_bytes=max(known, default=None),
        mean_memory_bytes=int(fmean(known)) if known else None,
        energy_j=last.get("energy_j"),
    )


def over_attempts(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The metrics of a run that its last attempt alone does not give.

    Time and energy are the sums over all attempts. Memory comes from the attempts with the per-
    device batch size and the gradient checkpointing of the last one.
    """
    if not attempts:
        return {}
    last = attempts[-1]
    same = [
        one
        for one in attempts
        if one.per_device_train_batch_size == last.per_device_train_batch_size
        and one.gradient_checkpointing == last.gradient_checkpointing
    ]

    def highest(name: str) -> Any:
        values = [getattr(one, name) for one in same]
        return max((value for value in values if value is not None), default=None)

    def mean(name: str, of: Sequence[Attempt]) -> float | None:
        """Weighted by duration."""
        weighted = [
            (value, one.duration_s) for one in of if (value := getattr(one, name)) is not None
        ]
        seconds = sum(duration for _, duration in weighted)
        return sum(value * duration for value, duration in weighted) / seconds if seconds else None

    energy = [one.energy_j for one in attempts if one.energy_j is not None]
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
            dict.fromkeys(reason for one in same for reason in one.timing_untrusted)
        ),
        "total_time_s": sum(one.duration_s for one in attempts),
    }
