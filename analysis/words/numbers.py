"""Numbers and lists as a person writes them."""

import math
from collections.abc import Iterable


def number(value: float, digits: int = 3) -> str:
    """Writes a number with so many significant digits, never with an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def signed(value: float) -> str:
    """A number with a true minus sign."""
    return ("−" if value < 0 else "") + number(abs(value), 2)


def join_words(words: Iterable[str]) -> str:
    """Joins words as in "a, b and c"."""
    *leading, last = words
    return f"{', '.join(leading)} and {last}" if leading else last


def plural(count: int, noun: str) -> str:
    """Counts a regular noun, as in "1 run" and "3 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
