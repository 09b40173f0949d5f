"""Quotes the values of a command line, so that Hydra reads what was typed.

Hydra's grammar knows neither Hangul nor `( ) # & ~ < > ; ! '` outside quotes, reads `1e3` as a
number and drops blanks at the ends. A value that Hydra reads as it was typed stays as it is, so
that lists, sweeps, `choice(…)` and `${…}` mean what they mean to Hydra. Everything else is quoted,
element by element. To quote a quoted value again changes nothing.

Source: https://hydra.cc/docs/1.3/advanced/override_grammar/basic/
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from batchopt.record.files import is_there
from batchopt.record.keys import Word, plain_text
from batchopt.request.constraints import is_path, is_words
from batchopt.request.sections import SECTIONS

_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/][\w./-]*", re.ASCII | re.IGNORECASE)
"""Values that Hydra reads as they stand; most are, and parsing takes its time."""

_FUNCTION = re.compile(
    r"(bool|choice|float|glob|int|interval|range|shuffle|sort|str|tag)\((.*)\)", re.DOTALL
)
"""Functions of the grammar."""

_CLOSES = {"(": ")", "[": "]", "{": "}"}
_IN_LISTS = "[{"
"""Brackets that hold commas together in a list; not "(", for the tokens ":(" and ":)"."""


class _Kind(Enum):
    """What a key holds: a text, a list of texts, either of them, or something else."""

    text = "text"
    texts = "texts"
    text_or_texts = "text or texts"
    other = "other"


_KINDS: Mapping[Any, _Kind] = {
    str: _Kind.text,
    str | None: _Kind.text,
    list[str]: _Kind.texts,
    list[str] | None: _Kind.texts,
}
"""The types of text among those of the schema."""


def quote(key: str, value: str) -> str:
    """Quotes the value of a key where Hydra would refuse it or read something else.

    Args:
        key: The dotted key, or a group. For a key that holds text, only commas, an enclosing
            `choice(…)`, `${…}`, quotes and null keep their meaning; for one that holds texts, also
            an enclosing `[…]`.
        value: The value as typed.
    """
    if _PLAIN.fullmatch(value) or not value or _breaks_lines(value):
        return value
    held = _keys().get(key, _OTHER)
    if held.kind is _Kind.other and _read(value) is not HydraException:
        return value
    if held.is_path:
        value = value.strip()
        if "," in value and is_there(Path(value).expanduser()):
            return quoted_text(value)
    elements = _split(value, "([{")
    if not all(elements):  # "," or "a,", which is no sweep
        return value if held.kind is _Kind.other else quoted_text(value)
    if len(elements) == 1:  # with the blanks at its ends
        return _element(value, held.kind)
    quoted = [_element(element, held.kind) for element in elements]
    return value if quoted == elements else ",".join(quoted)


def holds_text(key: str) -> bool:
    """Whether a key holds a text or a list of texts."""
    return _keys().get(key, _OTHER).kind is not _Kind.other


def as_one_value(word: Word) -> str:
    """Says how a text that Hydra reads as several values is typed as one; "" for other keys."""
    held = _keys().get(word.key, _OTHER).kind
    if word.value is None or held not in (_Kind.text, _Kind.text_or_texts):
        return ""
    text = word.value
    if "'" in text or '"' in text:  # some of the values had to be quoted
        text = ",".join(plain_text(value) for value in _split(text, "([{"))
    one = f"{word.key}={quoted_text(text, Quote.double)}"
    return f", or write one value that has commas as {shlex.quote(one)}"


def quoted_text(text: str, mark: Quote = Quote.single) -> str:
    """Quotes a text in Hydra's grammar."""
    return QuotedString(text, mark).with_quotes()


def _element(element: str, kind: _Kind) -> str:
    """Quotes one element of a sweep."""
    if (function := _FUNCTION.fullmatch(element)) is not None:
        if _read(element) is not HydraException:
            return element
        name, arguments = function.groups()
        return f"{name}({','.join(_argument(one, kind) for one in _split(arguments, '([{'))})"
    if kind is not _Kind.text and _is_list(element.strip()):
        inside = element.strip()[1:-1]
        parts = _split(inside, _IN_LISTS) if inside.strip() else []
        # With nothing between two commas Hydra refuses the list.
        return f"[{','.join(_text(part, kind) for part in parts)}]" if all(parts) else element
    return element if element.lower() == "null" else _text(element, kind)


def _argument(argument: str, kind: _Kind) -> str:
    """Quotes an argument of a function, unless it is named, as in `sort(3,1,reverse=true)`."""
    return argument if re.match(r"\w+=", argument, re.ASCII) else _element(argument, kind)


def _text(text: str, kind: _Kind) -> str:
    """Quotes a text unless Hydra reads just this text; a value of another kind if it must be."""
    read = _read(text)
    if isinstance(read, QuotedString):
        return text
    if kind is _Kind.other:
        return quoted_text(text) if read is HydraException else text
    # With a backslash Hydra's own way to escape a character has been used.
    if isinstance(read, str) and (read == text or ("\\" in text and text == text.strip())):
        return text
    return quoted_text(text)


def _breaks_lines(value: str) -> bool:
    """Whether a value has line breaks, which no message of one line could show."""
    return len(f"{value}.".splitlines()) > 1


def _read(value: str) -> Any:
    """Returns what Hydra reads, or the class HydraException if it refuses the value."""
    try:
        return _parser().parse_override(f"key={value}")._value
    except HydraException:
        return HydraException


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _split(text: str, brackets: str) -> list[str]:
    """Splits at the commas that stand in no quotes and in no pair of these brackets."""
    commas, _ = _scan(text, brackets)
    ends = [*commas, len(text)]
    starts = [0, *(comma + 1 for comma in commas)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def _is_list(text: str) -> bool:
    """Whether one pair of square brackets encloses the whole text."""
    _, pairs = _scan(text, _IN_LISTS)
    return text.startswith("[") and (0, len(text) - 1) in pairs


def _scan(text: str, brackets: str) -> tuple[list[int], set[tuple[int, int]]]:
    """Finds the commas outside quotes and brackets, and the pairs of brackets.

    A bracket without its partner is an ordinary character, and so is a quote unless it stands where
    an element begins: it's.csv.
    """
    commas: list[int] = []
    opened: list[int] = []
    pairs: set[tuple[int, int]] = set()
    at, begins = 0, True
    while at < len(text):
        character = text[at]
        if begins and character in "'\"" and (end := _quote_end(text, at)) is not None:
            at = end
        elif character == "\\":
            at += 1
        elif character in brackets:
            opened.append(at)
        elif character == ",":
            commas.append(at)
        elif (start := _partner(text, opened, character)) is not None:
            del opened[opened.index(start) :]
            pairs.add((start, at))
            commas = [comma for comma in commas if comma < start]
        begins = character in ",[{(" or (begins and character.isspace())
        at += 1
    return commas, pairs


def _partner(text: str, opened: list[int], character: str) -> int | None:
    """Returns where the innermost bracket opens that this character closes."""
    return next((at for at in reversed(opened) if _CLOSES[text[at]] == character), None)


def _quote_end(text: str, start: int) -> int | None:
    """Returns where the quotes that open at `start` close; None if they do not."""
    found = re.compile(r"(?:\\.|[^\\])*?" + text[start], re.DOTALL).match(text, start + 1)
    return None if found is None else found.end() - 1


@dataclass(frozen=True, slots=True)
class _Key:
    """What a key holds, and whether that is a path."""

    kind: _Kind
    is_path: bool


_OTHER = _Key(_Kind.other, False)


@cache
def _keys() -> dict[str, _Key]:
    keys = dict.fromkeys(("hydra.run.dir", "hydra.sweep.dir"), _Key(_Kind.text, True))
    for group, _, schema in SECTIONS:
        hints = get_type_hints(schema)
        for item in dataclasses.fields(schema):
            kind = _KINDS.get(hints[item.name], _Kind.other)
            # A path, or a list of paths; a word, or a list of words.
            if kind is _Kind.other and (is_path(item) or is_words(item)):
                kind = _Kind.text_or_texts
            keys[f"{group}.{item.name}" if group else item.name] = _Key(kind, is_path(item))
    return keys
