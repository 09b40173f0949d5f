"""Adds each run of a search to sweep.json as it starts, and gives its value to the sweeper."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from batchopt.record.metrics import METRICS, Better
from batchopt.record.read import RunRecord, read_plan, read_planned_run
from batchopt.record.statuses import Status
from batchopt.request.compose import RunRequest
from batchopt.sweeps.plan import change_plan, planned_run

WORST = 1e30
"""Worse than any measured value. Finite, since Optuna multiplies the values of several objectives,
and NaN would end its search."""


def value_of(run_dir: Path, names: Sequence[str]) -> float | tuple[float, ...]:
    """The value that the sweeper receives for a finished run; a tuple for several metrics."""
    run = read_planned_run(run_dir)
    values = tuple(_value(run, name) for name in names)
    return values[0] if len(values) == 1 else values


def _value(run: RunRecord, name: str) -> float:
    value = run.metrics.get(name)
    if run.status == Status.completed and value is not None:
        return float(value)
    return WORST if METRICS[name].better is Better.lower else -WORST


def add_to_search(request: RunRequest, number: int | None) -> None:
    """Adds a run that starts to the plan of its search; does nothing for any other run."""
    directory = request.run_dir.parent
    plan = read_plan(directory)
    if plan is None or plan.search is None:
        return
    with FileLock(directory / ".sweep.lock"):  # several runs may start at once
        plan = read_plan(directory)
        assert plan is not None
        if request.run_dir.name not in [job.run_dir for job in plan.jobs]:
            jobs = [*plan.jobs, planned_run(request, number, len(plan.jobs), request.run_dir.name)]
            change_plan(directory, jobs=[asdict(job) for job in jobs])
