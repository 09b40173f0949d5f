"""The presets of the group `batch` that fit the effective batch, for `verify` and `probe`."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchopt.record.keys import Word
from batchopt.request.batch_plan import ACCUMULATION, EFFECTIVE, PER_DEVICE, BatchPlan, Indivisible
from batchopt.request.compose import RunRequest, choices_of, compose_run

_CHOOSES = ("batch", PER_DEVICE, ACCUMULATION)


@dataclass(frozen=True, slots=True)
class Presets:
    """The batch plan of each preset, by its name.

    `request` is what the person asked for. `left_out` is a line about the presets that do not
    divide the effective batch, or "" if all do.
    """

    request: RunRequest
    plans: dict[str, BatchPlan]
    left_out: str


def compose_presets(overrides: Sequence[str]) -> Presets:
    """Plans every preset that divides the effective batch, with the other overrides as they are.

    A person who names no batch gets the first preset that divides it.

    Raises:
        RequestError: The words are wrong, the batch that they name does not divide the effective
            batch, or no preset does.
    """
    others = [word for word in overrides if Word.parse(word).key not in _CHOOSES]
    requests: dict[str, RunRequest] = {}
    indivisible: list[str] = []
    for name in choices_of("batch"):
        if name == "custom":
            continue
        try:
            requests[name] = compose_run([f"batch={name}", *others])
        except Indivisible:
            indivisible.append(name)
    plans = {name: request.plan for name, request in requests.items() if request.plan}
    try:
        asked = compose_run(overrides)
    except Indivisible:
        if len(others) < len(overrides) or not plans:
            raise
        asked = requests[next(iter(plans))]
    if asked.plan:
        plans.setdefault(asked.preset, asked.plan)
    names = ", ".join(indivisible)
    effective = asked.config.batch.effective_batch_size
    left_out = f"left out: {names}, which do not divide {EFFECTIVE}={effective}" if names else ""
    return Presets(asked, plans, left_out)
