"""Runs of a search: each is added to the plan as it starts, and told to the sweeper as it ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from batchopt.record.files import RECORD, SWEEP, read_json, write_json
from batchopt.record.metrics import METRICS, Better
from batchopt.record.read import read_plan
from batchopt.request.compose import RunRequest
from batchopt.sweeps.plan import existing_plan, planned_job

WORST = 1e30
"""Worse than anything a run can measure. Finite, since Optuna multiplies the values of several
objectives; NaN would end its search."""


def value_of(run_dir: Path, names: Sequence[str]) -> float | tuple[float, ...]:
    """What a run that has ended is worth; one number for one metric."""
    record = read_json(run_dir / RECORD) or {}
    values = tuple(_value(record, name) for name in names)
    return values[0] if len(values) == 1 else values


def _value(record: dict[str, Any], name: str) -> float:
    value = record.get("metrics", {}).get(name)
    if record.get("status") == "completed" and value is not None:
        return float(value)
    return WORST if METRICS[name].better is Better.lower else -WORST


def add_to_search(request: RunRequest, number: int | None) -> None:
    """Adds a run that starts to the plan of its search; does nothing for any other run."""
    directory = request.run_dir.parent
    if "search" not in (read_plan(directory) or {}):
        return
    with FileLock(directory / ".sweep.lock"):  # runs may start side by side
        plan = existing_plan(directory)
        names = [job["run_dir"] for job in plan["jobs"]]
        if request.run_dir.name not in names:
            plan["jobs"].append(planned_job(request, number, request.run_dir.name))
            write_json(directory / SWEEP, plan)
