"""How the runs of a sweep ended, and the exit code that follows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.record.read import read_record, section
from batchopt.sweeps.plan import existing_plan


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one planned run ended; `missing` where it left no record."""

    name: str
    plan: str
    status: str
    cause: str
    metrics: dict[str, Any]


def read_results(directory: Path) -> list[RunResult]:
    """Reads how every planned run of a sweep ended."""
    names = [job["run_dir"] for job in existing_plan(directory)["jobs"]]
    return [read_result(directory / name, name) for name in names]


def read_result(run_dir: Path, name: str) -> RunResult:
    """Reads how one run ended."""
    try:
        record = read_record(run_dir)
    except RequestError as error:
        return RunResult(name, "", "missing", str(error), {})
    if record is None:
        return RunResult(name, "", "missing", "it left no record", {})
    plan = section(record, "plan")
    per_device, accumulation = (
        plan.get(key) for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    pair = f"{per_device} x {accumulation}" if per_device and accumulation else ""
    cause = str(record.get("cause") or "")
    return RunResult(name, pair, record["status"], cause, section(record, "metrics"))


def exit_code(results: list[RunResult]) -> int:
    """0 where every run ended as a result; 1 where one failed, was stopped or is missing.

    Out of memory, a timeout and a kill are results: they say something about the preset.
    """
    return int(any(r.status in ("failed", "interrupted", "missing") for r in results))
