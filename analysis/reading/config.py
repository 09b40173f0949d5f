"""The composed config of a run, as plain keys and values."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any


def read_config(path: Path) -> str:
    """The composed config as text, without the seed, so that most runs of a sweep share it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return re.sub(r"^seed:.*\n", "", text, flags=re.MULTILINE)


@lru_cache(maxsize=256)
def parse_config(text: str) -> Mapping[str, str]:
    """Dotted keys and plain values; a reference to another key has that key's value.

    Empty if the text is no config: the run is read without it.
    """
    if not text:
        return {}
    import yaml

    try:
        flat = dict(_flatten(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), ()))
    except (yaml.YAMLError, AttributeError):
        return {}
    return {
        key: plain_value(
            flat.get(reference[1], value)
            if isinstance(value, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", value))
            else value
        )
        for key, value in flat.items()
    }


def _flatten(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, (*path, str(key)))
        else:
            yield ".".join((*path, str(key))), value


def plain_value(value: object) -> str:
    """A value as text, the same for "1e-4" and 0.0001."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    text = str(value)
    try:
        return f"{float(text):.12g}"
    except ValueError:
        return text
