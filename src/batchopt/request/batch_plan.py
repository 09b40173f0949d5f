"""The arithmetic of a batch: per device x accumulation = effective."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from batchopt.errors import RequestError
from batchopt.request.config import BatchConfig

PER_DEVICE = "batch.per_device_train_batch_size"
ACCUMULATION = "batch.gradient_accumulation_steps"
EFFECTIVE = "batch.effective_batch_size"


class Indivisible(RequestError):
    """A size or accumulation that does not divide the effective batch."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How the examples of one optimizer step reach the device.

    The last micro-batch is smaller where the size does not divide the step (24 + 24 + 16).
    """

    per_device_train_batch_size: int
    effective_batch_size: int

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches of one optimizer step."""
        return math.ceil(self.effective_batch_size / self.per_device_train_batch_size)

    def __str__(self) -> str:
        return f"{self.per_device_train_batch_size} x {self.gradient_accumulation_steps}"


def divisor_pairs(effective_batch_size: int) -> list[BatchPlan]:
    """Lists every plan with that product, smallest micro-batch first."""
    return [
        BatchPlan(size, effective_batch_size)
        for size in range(1, effective_batch_size + 1)
        if effective_batch_size % size == 0
    ]


def plan_batch(batch: BatchConfig, named: Collection[str] = ()) -> BatchPlan | None:
    """Completes and checks the batch arithmetic.

    Args:
        batch: The preset with what was set over it; its numbers are 1 or more.
        named: The keys that the person set beside the preset, such as
            "batch.per_device_train_batch_size". If the pair does not reach the effective batch, a
            named key holds and the other key of the pair follows.

    Returns:
        The plan; None for batch=auto, which chooses the pair on the device that the run gets.

    Raises:
        RequestError: No pair with these numbers reaches the effective batch.
    """
    effective = batch.effective_batch_size
    per_device = batch.per_device_train_batch_size
    accumulation = batch.gradient_accumulation_steps
    if batch.auto:
        for key, value in ((PER_DEVICE, per_device), (ACCUMULATION, accumulation)):
            if value is not None:
                raise RequestError(
                    f"{key} is {value}, and batch=auto chooses it; name a pair or batch=auto"
                )
        return None
    if per_device and accumulation and per_device * accumulation != effective:
        if PER_DEVICE in named and ACCUMULATION in named:
            raise RequestError(
                f"{PER_DEVICE} x {ACCUMULATION} is {per_device} x {accumulation} = "
                f"{per_device * accumulation}, and {EFFECTIVE} is {effective}; name only one of "
                f"the two and the other follows, or take one of {_pairs(effective)}"
            )
        if ACCUMULATION in named:
            per_device = None
        else:
            accumulation = None
    if per_device is None and accumulation is None:
        raise RequestError(
            f"{PER_DEVICE} and {ACCUMULATION} are both null; set one, the other follows from "
            f"{EFFECTIVE} ({effective})"
        )
    given_key, given = (PER_DEVICE, per_device) if per_device else (ACCUMULATION, accumulation)
    assert given is not None
    if effective % given:
        raise Indivisible(
            f"{given_key} ({given}) does not divide {EFFECTIVE} ({effective}); "
            f"pairs that reach it: {_pairs(effective)}"
        )
    return BatchPlan(given if per_device else effective // given, effective)


def _pairs(effective: int) -> str:
    return ", ".join(str(plan) for plan in divisor_pairs(effective))
