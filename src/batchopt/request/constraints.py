"""The constraints that stand beside the fields of the config.

`max_steps: int | None = field(default=None, metadata=at_least(1))`: the field, its default and the
values that it may have stand on one line. `--help` and the reference show them, `rules.check` holds
them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEY, _PATH = "constraint", "path"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a value must be.

    `text` completes "it must be …". With `each`, the value is a list and every element must fulfil
    the constraint.
    """

    text: str
    holds: Callable[[Any], bool]
    each: bool = False


def constraint_of(item: "dataclasses.Field[Any]") -> Constraint | None:
    """The constraint beside a field, if there is one."""
    found: Constraint | None = item.metadata.get(_KEY)
    return found


def is_path(item: "dataclasses.Field[Any]") -> bool:
    """Whether a field holds a path, in which `~` is the home."""
    return bool(item.metadata.get(_PATH))


def path() -> dict[str, bool]:
    """A path of a file or folder; `~` at its beginning is the home."""
    return {_PATH: True}


def at_least(minimum: float) -> dict[str, Constraint]:
    """A number from `minimum` on."""
    return {_KEY: Constraint(f"{minimum} or more", lambda value: value >= minimum)}


def positive() -> dict[str, Constraint]:
    """A number above 0."""
    return {_KEY: Constraint("greater than 0", lambda value: value > 0)}


def share() -> dict[str, Constraint]:
    """A number from 0 up to 1, without 1."""
    text = "from 0 up to, not including, 1"
    return {_KEY: Constraint(text, lambda value: 0 <= value < 1)}


def not_empty() -> dict[str, Constraint]:
    """A text of at least one character."""
    return {_KEY: Constraint("not empty", lambda value: value != "")}


def one_of(*choices: str) -> dict[str, Constraint]:
    """One of some words."""
    return {_KEY: Constraint(f"one of {', '.join(choices)}", choices.__contains__)}


def list_of(*choices: str) -> dict[str, Constraint]:
    """A list of some words."""
    return {_KEY: Constraint(f"a list of {', '.join(choices)}", choices.__contains__, each=True)}
