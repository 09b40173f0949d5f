"""Translates the settings of other training scripts: flags, and files such as train.yaml.

Nothing is read in their place: the person gets the words to type here.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from batchopt.errors import RequestError
from batchopt.record.keys import Word
from batchopt.request.batch_plan import ACCUMULATION, EFFECTIVE, PER_DEVICE
from batchopt.request.compose import all_keys
from batchopt.request.messages import key_named
from batchopt.request.presets import compose_presets
from batchopt.request.quoting import quote
from batchopt.request.transformers_names import ARGUMENTS, SAME_VALUE, answer

_OWN = frozenset(("auto", "config_name", "kind", "name", "run", "sizes", "source"))
"""Keys of ours that mean something else in a script, or as a flag of Hydra's."""


def refuse_script_words(words: Sequence[str]) -> None:
    """Refuses the words of a training script, and says what to type instead.

    Raises:
        RequestError: A word is `--config`, the name of a YAML file, or a flag such as
            `--learning_rate 3e-5`.
    """
    for at, text in enumerate(words):
        word = Word.parse(text)
        following = words[at + 1] if at + 1 < len(words) else ""
        if word.key == "--config" or re.fullmatch(r"[^-=][^=]*\.ya?ml", text):
            named = text if word.key != "--config" else (word.value or following)
            raise RequestError(_instead_of(named))
        if not word.key.startswith("--"):
            continue
        name = word.key.lstrip("-").replace("-", "_")
        key = _key_of(name)
        if key is None and (known := answer(f"{ARGUMENTS}.{name}")) is not None:
            raise RequestError(f"{text}: no such flag; {known}")
        if key is not None:
            value = word.value
            if value is None:
                value = "true" if following.startswith("-") or "=" in following else following
            typed = " ".join(_words(name, key, value or "true"))
            remedy = f"as a key: {typed}" if typed else "leave it out"
            raise RequestError(f"{text}: no such flag; {remedy}")


def _key_of(name: str) -> str | None:
    """Finds the key of a name in a script, with the choice that it may need."""
    return None if name in _OWN else SAME_VALUE.get(name) or key_named(name, all_keys())


def _instead_of(path: str) -> str:
    """Says what to type instead of naming a file of settings."""
    said = f"{path or '--config'}: batchopt takes words, not a file of settings"
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        settings = None
    if not isinstance(settings, Mapping):
        return f"{said}; type them, as in batch=05b training.learning_rate=3e-5"
    typed, unknown = _translated(dict(_leaves(settings)))
    left = f"; without a key here: {', '.join(unknown)}" if unknown else ""
    if not typed:
        return f"{said}{left}; --help shows the keys"
    return f"{said}; type instead: python -m batchopt.train {' '.join(typed)}{left}"


def _leaves(settings: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the settings of a file without the sections in which they stand."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif value is not None:
            yield str(name), value


def _translated(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Translates settings; returns the words, and the names that have no key here."""
    words: list[str] = []
    unknown: list[str] = []
    pair: dict[str, Any] = {}
    for name, value in settings.items():
        key = _key_of(name)
        if key is None or isinstance(value, list):
            unknown.append(name)
        elif key in (PER_DEVICE, ACCUMULATION):
            pair[key] = value
        else:
            words += _words(name, key, str(value).lower() if isinstance(value, bool) else value)
    return list(dict.fromkeys([*_batch(pair), *words])), unknown


def _batch(pair: Mapping[str, Any]) -> list[str]:
    """Names the preset that has this pair, or the pair itself."""
    # What the Trainer takes for a number that is not named.
    sizes = [pair.get(PER_DEVICE, 8), pair.get(ACCUMULATION, 1)]
    if not pair or not all(isinstance(size, int) for size in sizes):
        return []
    for name, plan in compose_presets(()).plans.items():
        if [plan.per_device_train_batch_size, plan.gradient_accumulation_steps] == sizes:
            return [f"batch={name}"]
    return ["batch=custom", f"{PER_DEVICE}={sizes[0]}", f"{EFFECTIVE}={sizes[0] * sizes[1]}"]


def _words(name: str, key: str, value: Any) -> list[str]:
    """Writes a key with its value, and before it the choice that it may need."""
    *choice, dotted = key.split(" ")
    text = str(value)
    if name in ("fp16", "bf16"):
        if text.lower() != "true":
            return []
        text = name
    return [*choice, shlex.quote(f"{dotted}={quote(dotted, text)}")]
