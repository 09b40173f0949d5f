"""Says in one line, with the remedy, what Hydra and omegaconf say in several.

No other module knows the messages of omegaconf. For a wrong key or choice it looks for the name
that was probably meant among those that exist.
"""

import dataclasses
import difflib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import MissingConfigException

from batchopt.record.keys import Word
from batchopt.request.transformers_names import SAME_VALUE

ALIASES = {
    **{name: key.rpartition(".")[2] for name, key in SAME_VALUE.items()},
    "accumulation_steps": "gradient_accumulation_steps",
    "batch_size": "per_device_train_batch_size",
    "bf16": "precision",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "fp16": "precision",
    "generation_max_length": "max_target_length",
    "gpu": "cuda",
    "grad_accum": "gradient_accumulation_steps",
    "lr": "learning_rate",
    "model_name": "name_or_path",
    "model_name_or_path": "name_or_path",
    "num_epochs": "num_train_epochs",
    "num_workers": "dataloader_num_workers",
    "scheduler": "lr_scheduler_type",
    "train_batch_size": "per_device_train_batch_size",
}
"""Other names of keys and choices, which no comparison of letters would find."""


def close_to(word: str, names: Collection[str]) -> str | None:
    """Finds the name that was probably meant."""
    if ALIASES.get(word) in names:
        return ALIASES[word]
    lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), lower, n=1)
    if not found and len(word) > 3:
        found = [name for name in lower if word.lower() in name][:1]
    return lower[found[0]] if found else None


def unreadable(word: str, choices: Mapping[str, Collection[str]], reason: str) -> str:
    """The message for a word of the command line that is no key=value.

    Args:
        word: The word, quoted already where quotes help.
        choices: The choices of each group.
        reason: What Hydra says against it.
    """
    for group, names in choices.items():
        if word in names:
            return (
                f"{word!r} is no key=value; did you mean {group}={word}? No spaces around '=' or "
                f"after a comma, as in {group}={','.join(sorted(names)[:2])}"
            )
    if "=" not in word:
        return (
            f"{word!r} is no key=value; no spaces around '=' or after a comma, as in seed=1,2,3, "
            "and quotes around a value that has some"
        )
    function = re.search(r"^.*while evaluating.*$", reason, re.MULTILINE)
    return f"cannot read {word!r}: {function[0] if function else _why_unreadable(word)}"


def _why_unreadable(word: str) -> str:
    """Says what is wrong with a KEY=VALUE, with the word that works, as one types it in a shell."""
    parsed = Word.parse(word)
    key, value = parsed.key, parsed.value or ""
    if not re.fullmatch(r"[\w$./@:-]*", key, re.ASCII):
        return f"{key!r} is no key; write key=value, as in data.train_file=…"
    if len(f"{value}.".splitlines()) > 1:
        return "a value may have no line breaks"
    if value.startswith("["):
        works = shlex.quote(f'{key}=[A,B,","]')
        return (
            f"something stands between the commas of a list, as in {works}, which ends with a "
            "comma itself"
        )
    works = shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
    return (
        "a comma stands between the values of a sweep, as in seed=1,2,3; write one value that has "
        f"commas as {works}"
    )


def no_such_choice(error: MissingConfigException, groups: Collection[str]) -> str:
    """The message for a choice that a group does not have."""
    path = str(error.missing_cfg_file)
    group = next((name for name in (*groups, "hydra") if path.startswith(f"{name}/")), "")
    choice = path.removeprefix(f"{group}/")
    if group in ("", "hydra"):
        group, _, choice = path.rpartition("/")
    options = [option for option in error.options or [] if option != "schema"]
    meant = close_to(choice, options)
    hint = f"did you mean {group}={meant}? " if meant else ""
    looks_like_file = re.search(r"\.(csv|tsv|jsonl?|parquet)$", choice)
    if path == "hydra/sweeper/optuna":
        hint = (
            "pip install 'batchopt[optuna]' (in a checkout: pip install -e '.[optuna]') adds it; "
        )
    elif path == "batch/divisors":
        hint = "batch=divisors stands alone, without other batches; "
    elif Path("conf", f"{path}.yaml").is_file():
        own = shlex.quote(f"file://{Path('conf').resolve()}")
        hint = f"conf/{path}.yaml of this folder counts after: export BATCHOPT_CONF={own}; "
    elif path == "batch/best":
        hint = "make adopt writes it from a sweep's results; "
    elif group == "data" and looks_like_file:
        hint = f"a file of your own is data=files data.train_file={choice}; "
    elif group == "data" and not meant:
        hint = f"a data set of the hub is data=hub data.name={choice}; "
    elif group == "model" and not meant:
        hint = f"any other is model=pretrained model.name_or_path={choice}; "
    return f"{group}={choice}: no such choice; {hint}choices: {', '.join(options)}"


def no_such_searchpath(warning: str) -> str:
    """The message for a folder of choices that is not there, from Hydra's warning."""
    found = re.search(r"path=(?P<path>.*) is not available", warning)
    folder = found["path"] if found else warning
    return (
        f"hydra.searchpath: {folder} is not there; name a folder that is, as in "
        "'hydra.searchpath=[file:///FOLDER]' or BATCHOPT_CONF=file:///FOLDER"
    )


def no_such_key(key: str, siblings: Iterable[str], elsewhere: Mapping[str, Collection[str]]) -> str:
    """The message for a key that its group does not have.

    Args:
        key: The dotted key.
        siblings: The keys that its group has.
        elsewhere: The keys of every group and choice, by how they are reached: "training", or
            "data=files data" for those of one choice.
    """
    parent, _, leaf = key.rpartition(".")
    names = sorted(siblings)
    if leaf in names:
        return f"{key} is a table; set a key of it, as in +{key}.NAME=VALUE"
    meant = close_to(leaf, names)
    dotted = f"{parent}.{meant}" if parent else meant
    hint = f"did you mean {dotted}? " if meant else ""
    # The same name in another place is more likely meant than a similar one here.
    near = {
        place: keys
        for place, keys in elsewhere.items()
        if f"{place.rsplit(' ', 1)[-1]}.".startswith(f"{parent}.")
    }
    full = key_named(leaf, near) or key_named(leaf, elsewhere)
    if full and ALIASES.get(leaf) not in names:
        hint = f"did you mean {full}? "
    if key in ("launcher", "sweeper"):
        hint = f"did you mean hydra/{key}? "
    has = f"{parent} has" if parent else "the keys are"
    return f"{key}: no such key; {hint}{has}: {', '.join(names)}"


def key_named(name: str, places: Mapping[str, Collection[str]]) -> str | None:
    """Finds the full key of a name that was typed without its group, or under another name.

    Args:
        name: The name, such as learning_rate or lr.
        places: The keys of every group and choice, as for `no_such_key`.

    Returns:
        The dotted key with the choice that it needs, such as "data=files data.train_file".
    """
    for wanted in (name, ALIASES.get(name)):
        for place, keys in places.items():
            if wanted in keys:
                return f"{place}.{wanted}" if place else wanted
    return None


def invalid(key: str | None, message: str, typed: str = "") -> str:
    """The message for a value that its key does not take.

    Args:
        key: The dotted key; None if omegaconf does not say it.
        message: The first line of omegaconf's message.
        typed: The value on the command line; "" if it came from elsewhere.
    """
    if key and "is not a ListConfig" in message:
        word = shlex.quote(f"{key}=[{typed or 'NAME'}]")
        return f"{key} must be a list, as in {word}"
    for pattern, rule in _RULES:
        found = re.search(pattern, message)
        if key and found:
            return rule.format(key=key, **found.groupdict())
    return f"{key}: {message}" if key and key not in message else message


_RULES = (
    (
        r"^Cannot assign \w+ to Dict|^Invalid type assigned",
        "{key} is a table; set {key}.NAME=VALUE",
    ),
    (r"is not Optional", "{key} is null; it must have a value"),
    (
        r"^Value '(?P<value>.*)' of type .* to Integer",
        "{key} is {value}; it must be a whole number",
    ),
    (r"^Value '(?P<value>.*)' of .* to Float", "{key} is {value}; it must be a number"),
    (r"^Value '(?P<value>.*)' is not a valid bool", "{key} is {value}; it must be true or false"),
    (
        r"^Invalid value '(?P<value>.*)', expected one of \[(?P<options>.*)\]",
        "{key} is {value}; it must be one of {options}",
    ),
    (
        r"Environment variable '(?P<name>.*)' not found",
        "{key} needs the environment variable {name}, which is not set; set it, or name a default: "
        "${{oc.env:{name},DEFAULT}}",
    ),
)
"""Patterns of omegaconf's messages, and the messages that replace them."""


def field_names(schema: type) -> list[str]:
    """Lists the keys of a schema."""
    return [item.name for item in dataclasses.fields(schema)]
