"""Numbers and lists as a person writes them."""

import math
import re
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


def rounded(value: float) -> str:
    """A number to two significant digits, as a count of thousands is said."""
    digits = max(0, math.floor(math.log10(abs(value))) - 1) if value else 0
    return f"{round(value, -digits):,.0f}"


def short(label: str) -> str:
    """The preset alone where that says which setting is meant: "05a" for "05a (8 × 8)"."""
    found = re.fullmatch(r"(\S+) \(\d+ × \d+\)", label)
    return found[1] if found else label
