"""Writes the documents of a run; every record of batchopt comes from `write_record`."""

from dataclasses import asdict, replace
from pathlib import Path

from batchopt.record import files
from batchopt.record.attempts import over_attempts
from batchopt.record.documents import Record, Running
from batchopt.record.metrics import METRICS


def write_record(run_dir: Path, record: Record) -> None:
    """Writes record.json, which ends the run, and removes running.json.

    Completes the record first: the phase and the step come from the last attempt, and `metrics` has
    every metric, also those that follow from the attempts.
    """
    attempts = record.attempts or ()
    metrics = dict.fromkeys(METRICS) | {**record.metrics} | over_attempts(attempts)
    reserved, peak = metrics["peak_reserved_bytes"], metrics["peak_memory_bytes"]
    if reserved is not None and peak is not None:
        metrics["outside_allocator_bytes"] = peak - reserved
    record = replace(
        record,
        metrics=metrics,
        phase=attempts[-1].phase if attempts else None,
        step=attempts[-1].step if attempts else None,
    )
    files.release(run_dir)
    files.write_json(run_dir / files.RECORD, asdict(record))
    files.sweep_up(run_dir)


def write_running(run_dir: Path, running: Running) -> None:
    """Writes running.json: the run goes on."""
    files.write_json(run_dir / files.RUNNING, asdict(running))
