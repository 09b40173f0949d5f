"""The words of a command line before Hydra sees them: short forms are spelled out here."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from batchopt.errors import RequestError
from batchopt.request.batch_plan import ACCUMULATION, EFFECTIVE, PER_DEVICE, divisor_pairs
from batchopt.request.compose import EXPERIMENT
from batchopt.request.config import BatchConfig, Config

DIVISORS = "batch=divisors"


def accept_plus(argument: str) -> str:
    """Turns `+batch=05b` into `batch=05b`, and `experiment=final` into `+experiment=final`.

    Hydra wants the plus for a group outside the defaults list and refuses it for one inside, so
    no composition takes both `+batch=05b` and `-m batch=05a,05b`; people type both. The groups
    and keys of batchopt are closed, so a plus before one of them can mean nothing else. Experiments
    stand outside the defaults list, since there is none by default.
    """
    if argument.startswith(f"{EXPERIMENT}="):
        return f"+{argument}"
    keys = "|".join(field.name for field in dataclasses.fields(Config))
    return re.sub(rf"^\+{{1,2}}(?=(?:{keys})(?:[.=]))", "", argument)


def name_divisors(words: Sequence[str]) -> list[str]:
    """Spells out `batch=divisors`: batch=custom with every divisor of the effective batch.

    Raises:
        RequestError: Something else says what is to be swept.
    """
    if DIVISORS not in words:
        return list(words)
    effective = BatchConfig().effective_batch_size
    for word in words:
        key, _, value = word.partition("=")
        if key in (PER_DEVICE, ACCUMULATION):
            raise RequestError(f"{DIVISORS} names every {PER_DEVICE} itself; leave {key} out")
        if key == EFFECTIVE:
            if not value.isdecimal() or int(value) < 1:
                raise RequestError(f"{EFFECTIVE} is {value}; {DIVISORS} needs one whole number")
            effective = int(value)
    sizes = (str(plan.per_device_train_batch_size) for plan in divisor_pairs(effective))
    at = words.index(DIVISORS)
    spelled = ["batch=custom", f"{PER_DEVICE}={','.join(sizes)}"]
    return [*words[:at], *spelled, *words[at + 1 :]]


def quoted(key: str, value: Path) -> str:
    """An override that Hydra reads as just this path, whatever characters are in it."""
    text = str(value).replace("'", "\\'")
    return f"{key}='{text}'"
