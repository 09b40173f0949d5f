"""What a run is worth to whoever searches: `objective=rouge_f1`, or several metrics as a list.

The metrics are those of the record. A run that ended without one of them, out of memory or failed,
is worth `WORST`: the search then knows to stay away, which it would not learn from a run that is
left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.metrics import METRICS, Better
from batchopt.run_files import RECORD, read_json

WORST = 1e30
"""Worse than anything a run can measure. Finite, since Optuna multiplies the values of several
objectives; NaN would end its search."""


def read_objectives(objective: Any) -> tuple[str, ...]:
    """The metrics that the key `objective` names; none where it is null.

    Raises:
        RequestError: It names what is no metric, or one that is not better either way.
    """
    if objective is None:
        return ()
    names = [objective] if isinstance(objective, str) else list(objective)
    known = [name for name, metric in METRICS.items() if metric.better is not Better.neither]
    for name in names:
        if name not in known:
            raise RequestError(
                f"objective is {name}; it must be a metric that is better one way, such as "
                f"rouge_f1, steps_per_second or peak_memory_bytes; all: {', '.join(known)}"
            )
    return tuple(names)


def directions(names: Sequence[str]) -> list[str]:
    """For each metric `maximize` or `minimize`."""
    return [METRICS[name].better.value for name in names]


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
