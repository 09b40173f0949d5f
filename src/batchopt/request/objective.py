"""What a run is worth to whoever searches: `objective=rouge_f1`, or several metrics as a list.

The metrics are those of the record. A run that ended without one of them, out of memory or failed,
is worth `WORST`: the search then knows to stay away, which it would not learn from a run that is
left out.
"""

from collections.abc import Sequence
from typing import Any

from batchopt.errors import RequestError
from batchopt.record.metrics import METRICS, Better
from batchopt.request.messages import close_to


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
            meant = close_to(str(name), known)
            raise RequestError(
                f"objective is {name}; {f'did you mean {meant}? ' if meant else ''}it must be a "
                "metric that is better one way, such as rouge_f1, steps_per_second or "
                "peak_memory_bytes; docs/reference/record.md lists them"
            )
    return tuple(names)


def directions(names: Sequence[str]) -> list[str]:
    """For each metric `maximize` or `minimize`."""
    return [METRICS[name].better.value for name in names]
