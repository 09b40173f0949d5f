"""The constraints that stand beside the fields of the config.

`max_steps: int | None = field(default=None, metadata=at_least(1))`: the field, its default and the
values that it may have stand on one line. `--help` and the reference show them, `rules.check` holds
them.
"""

import codecs
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEY, _PATH, _WORDS = "constraint", "path", "words"


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


def is_words(item: "dataclasses.Field[Any]") -> bool:
    """Whether a field holds a list of words, or one."""
    return bool(item.metadata.get(_WORDS))


def path() -> dict[str, bool]:
    """A path of a file or folder; `~` at its beginning is the home."""
    return {_PATH: True}


def paths() -> dict[str, Any]:
    """A path, or a list of some."""

    def holds(value: Any) -> bool:
        found = value if isinstance(value, list) else [value]
        return bool(found) and all(isinstance(one, str | int | float) for one in found)

    return {
        _PATH: True,
        _KEY: Constraint("a path, or a list of paths, as in [a.csv,b.csv]", holds),
    }


def words_or(other: str, *, empty: bool = False) -> dict[str, Any]:
    """A list of words (at least one, unless `empty`), or the word `other` alone."""

    def holds(value: Any) -> bool:
        if not isinstance(value, list):
            return bool(value == other)
        return (empty or bool(value)) and all(isinstance(one, str) and one for one in value)

    text = f"a list of words, as in [one,two], or {other}"
    return {_WORDS: True, _KEY: Constraint(text, holds)}


def character(*names: str) -> dict[str, Constraint]:
    """One character that separates fields, itself or by its name."""

    def holds(value: str) -> bool:
        return value in (*names, r"\t") or (len(value) == 1 and value not in '"\r\n')

    return {_KEY: Constraint(f"one of {', '.join(names)}, or one character", holds)}


def encoding() -> dict[str, Constraint]:
    """The name of a text encoding that Python knows."""

    def holds(value: str) -> bool:
        try:
            codecs.lookup(value)
            "".encode(value)  # of the codecs, some turn bytes into bytes
        except (LookupError, UnicodeError):
            return False
        return True

    return {_KEY: Constraint("the name of an encoding, such as utf-8, utf-16 or cp949", holds)}


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


def once(placeholder: str) -> dict[str, Constraint]:
    """A text in which a placeholder stands exactly once."""

    def holds(value: str) -> bool:
        return value.count(placeholder) == 1

    return {_KEY: Constraint(f"a text with {placeholder} in it exactly once", holds)}


def one_of(*choices: str) -> dict[str, Constraint]:
    """One of some words."""
    return {_KEY: Constraint(f"one of {', '.join(choices)}", choices.__contains__)}


def list_of(*choices: str) -> dict[str, Constraint]:
    """A list of some words."""
    return {_KEY: Constraint(f"a list of {', '.join(choices)}", choices.__contains__, each=True)}


def one_of_or_flag(*choices: str) -> dict[str, Constraint]:
    """true, false or one of some words."""
    text = f"one of true, false, {', '.join(choices)}"
    return {_KEY: Constraint(text, lambda value: isinstance(value, bool) or value in choices)}


def tokens(*, lists: bool = False) -> dict[str, Constraint]:
    """A list of ids of tokens, or with `lists` a list of such lists."""

    def are_ids(value: Any) -> bool:
        return (
            isinstance(value, list)
            and bool(value)
            and all(type(one) is int and one >= 0 for one in value)
        )

    if not lists:
        return {_KEY: Constraint("a list of ids of tokens, as in [5,6]", are_ids)}
    return {
        _KEY: Constraint(
            "a list of lists of ids of tokens, as in [[5,6],[7]]",
            lambda value: isinstance(value, list) and bool(value) and all(map(are_ids, value)),
        )
    }


def decay_of_length() -> dict[str, Constraint]:
    """A length, and a factor by which the end becomes likelier after it."""

    def holds(value: Any) -> bool:
        if not isinstance(value, list) or len(value) != 2:
            return False
        start, factor = value
        return type(start) is int and start >= 0 and type(factor) in (int, float) and factor > 0

    return {_KEY: Constraint("a length and a factor, as in [20,1.05]", holds)}
