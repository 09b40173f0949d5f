"""The presets of the group `batch` that fit the effective batch, for `verify` and `probe`."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchopt.record.keys import Word
from batchopt.request.batch_plan import (
    ACCUMULATION,
    EFFECTIVE,
    PER_DEVICE,
    BatchPlan,
    Indivisible,
    divisor_pairs,
)
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

    If no preset does and the person names no batch, every divisor stands in for them.

    Raises:
        RequestError: The words are wrong, or the batch that they name does not divide the effective
            batch.
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
    left_out = f"left out: {', '.join(indivisible)}, which do not divide" if indivisible else ""
    if len(others) < len(overrides):
        asked = compose_run(overrides)
    elif plans:
        # The default preset may be one of those that do not divide.
        asked = requests[next(iter(plans))] if indivisible else compose_run(overrides)
    else:
        asked = compose_run(["batch=custom", f"{ACCUMULATION}=1", *others])
    effective = asked.config.batch.effective_batch_size
    if not plans and len(others) == len(overrides):
        plans = {f"{plan}".replace(" ", ""): plan for plan in divisor_pairs(effective)}
    if asked.plan:
        plans.setdefault(asked.preset, asked.plan)
    return Presets(asked, plans, f"{left_out} {EFFECTIVE}={effective}" if left_out else "")
