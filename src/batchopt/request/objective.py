"""The metrics that a search optimises: `objective=rouge_f1`, or several as a list."""

from collections.abc import Sequence
from typing import Any

from batchopt.errors import RequestError
from batchopt.record.metrics import METRICS, Better
from batchopt.request.messages import close_to


def read_objectives(objective: Any) -> tuple[str, ...]:
    """Lists the metrics that the key `objective` names; none if it is null.

    Raises:
        RequestError: A name is no metric, or a metric that is neither better high nor better low.
    """
    if objective is None:
        return ()
    names = [objective] if isinstance(objective, str) else list(objective)
    known = [name for name, metric in METRICS.items() if metric.better is not Better.neither]
    for name in names:
        if name not in known:
            meant = close_to(str(name), known)
            raise RequestError(
                f"objective is {name}; {f'did you mean {meant}? ' if meant else ''}it must be a "
                "metric that is better one way, such as rouge_f1, steps_per_second or "
                "peak_memory_bytes; docs/reference/record.md lists them"
            )
    return tuple(names)


def directions(names: Sequence[str]) -> list[str]:
    """Says for each metric `maximize` or `minimize`."""
    return [METRICS[name].better.value for name in names]
