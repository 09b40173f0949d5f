"""A sweep's own files: what was planned, and what came of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchopt.compose import RunRequest, Sweep
from batchopt.errors import RequestError
from batchopt.run_files import RECORD, SWEEP, read_json, write_json

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one planned run ended; `missing` where it left no record."""

    name: str
    plan: str
    status: str
    cause: str
    metrics: dict[str, Any]


def write_plan(sweep: Sweep, command: str) -> None:
    """Writes sweep.json before the first run starts.

    Raises:
        RequestError: The directory already holds a sweep.
    """
    path = sweep.directory / SWEEP
    if path.exists():
        raise RequestError(
            f"hydra.sweep.dir: {sweep.directory} already holds a sweep; name another directory, "
            "or leave the key out"
        )
    write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "jobs": [
                {
                    "number": job.number,
                    "overrides": list(job.request.overrides),
                    "run_dir": job.run_dir,
                    "preset": job.request.preset,
                    "seed": job.request.config.seed,
                    **_pair(job.request),
                    "effective_batch_size": job.request.config.batch.effective_batch_size,
                }
                for job in sweep.jobs
            ],
        },
    )


def read_results(sweep: Sweep) -> list[RunResult]:
    """Reads how every planned run ended."""
    return [read_result(job.request.run_dir, job.run_dir) for job in sweep.jobs]


def read_result(run_dir: Path, name: str) -> RunResult:
    """Reads how one run ended."""
    record = read_json(run_dir / RECORD)
    if record is None:
        return RunResult(name, "", "missing", "it left no record", {})
    plan = record["plan"]
    pair = f"{plan['per_device_train_batch_size']} x {plan['gradient_accumulation_steps']}"
    return RunResult(name, pair, record["status"], record["cause"], record["metrics"])


def _pair(request: RunRequest) -> dict[str, int | None]:
    plan = request.plan
    return {
        "per_device_train_batch_size": plan.per_device_train_batch_size if plan else None,
        "gradient_accumulation_steps": plan.gradient_accumulation_steps if plan else None,
    }


def exit_code(results: list[RunResult]) -> int:
    """0 where every run ended as a result; 1 where one failed, was stopped or is missing.

    Out of memory, a timeout and a kill are results: they say something about the preset.
    """
    return int(any(r.status in ("failed", "interrupted", "missing") for r in results))
