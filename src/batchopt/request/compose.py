"""Composes command-line words into checked requests.

Only this module and `sweep` call Hydra's composition, and `messages` says its errors in one line.
No `DictConfig` leaves them. Nothing here imports torch, so that a wrong request is refused in a
fraction of a second.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from batchopt.errors import RequestError
from batchopt.record.keys import Word, plain_text
from batchopt.request import messages, transformers_names
from batchopt.request.batch_plan import BatchPlan, plan_batch
from batchopt.request.config import Config
from batchopt.request.hydra_section import check_hydra_section, read_hydra_path, refuse_foreign_code
from batchopt.request.launcher import Launcher, read_launcher
from batchopt.request.objective import read_objectives
from batchopt.request.paths import expand_homes, folder_name
from batchopt.request.quoting import as_one_value
from batchopt.request.rules import check
from batchopt.request.sections import DATA, MODELS, OPEN_TABLES, SECTIONS

GROUPS = (
    "batch",
    "data",
    "model",
    "adapter",
    "training",
    "metric",
    "generation",
    "device",
    "tracker",
)
EXPERIMENT = "experiment"
"""Group of files that set several keys at once; it has no key of its own."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run as it was asked for, checked.

    `overrides` are the words that made it. `preset` is the choice of the group `batch`; for
    batch=custom and batch=pair/1x64 it is the pair, such as "32x2". `plan` is None for batch=auto.
    """

    config: Config
    plan: BatchPlan | None
    preset: str
    overrides: tuple[str, ...]
    run_dir: Path
    launcher: Launcher


def conf_dir() -> Path:
    """Returns the folder conf/, inside an installed package or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def choices_of(group: str) -> list[str]:
    """Lists the choices of a group, in order; those of BATCHOPT_CONF too."""
    own = os.environ.get("BATCHOPT_CONF", "")
    folders = [
        conf_dir(),
        *([Path(own.removeprefix("file://"))] if own.startswith("file://") else []),
    ]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def register() -> None:
    """Registers the schemas, and what conf/ calls, with Hydra; a second call changes nothing."""
    OmegaConf.register_new_resolver("batchopt_folder", folder_name, replace=True)
    store = ConfigStore.instance()
    if "schema.yaml" in store.repo:  # to read the classes again takes an eighth of a composition
        return
    store.store(name="schema", node=Config)
    for name, node in DATA.items():
        store.store(group="schema/data", name=name, node=node)
    for name, node in MODELS.items():
        store.store(group="schema/model", name=name, node=node)


def compose_run(overrides: Sequence[str]) -> RunRequest:
    """Composes and checks one run.

    Raises:
        RequestError: An override names no key or choice, or a value breaks a rule.
    """
    with composing():
        _refuse_sweeps(overrides)
        composed = compose_config(overrides)
        return make_request(composed, overrides, read_hydra_path(composed, "hydra.run.dir"))


def composing() -> initialize_config_dir:
    """Starts Hydra's composition on conf/, as a context manager."""
    register()
    GlobalHydra.instance().clear()
    return initialize_config_dir(str(conf_dir()), job_name="train", version_base="1.3")


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Parses words as Hydra does.

    Raises:
        RequestError: A word is not KEY=VALUE.
    """
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for word in overrides:
        try:
            parsed += parser.parse_overrides([word])
        except OverrideParseException as error:
            choices = {group: choices_of(group) for group in GROUPS}
            raise RequestError(messages.unreadable(word, choices, str(error))) from error
    for override in parsed:
        if not override.key_or_group:
            raise RequestError(f"{override.input_line} names no key: write key=value")
        _refuse_no_choice(override)
    return parsed


def _refuse_no_choice(override: Override) -> None:
    """Refuses numbers, lists and mappings for a group; Hydra would not survive some of them."""
    group, value = override.key_or_group, override.value()
    if override.is_sweep_override() or isinstance(value, str | None):
        return
    if choices_of(group) or ("/" in group and isinstance(value, list | dict)):
        raise RequestError(_no_choice(group))


def _refuse_sweeps(overrides: Sequence[str]) -> None:
    for override in parse_overrides(overrides):
        if override.is_sweep_override():
            word = Word.parse(override.input_line or "")
            raise RequestError(
                f"{word.text} names several values; add -m to run them as a sweep"
                f"{as_one_value(word)}"
            )


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Composes a config from words.

    Raises:
        RequestError: A word names no key or choice.
    """
    parse_overrides(overrides)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "provider=.* is not available", UserWarning)
            composed = compose("config", list(overrides), return_hydra_config=True)
    except UserWarning as warning:
        raise RequestError(messages.no_such_searchpath(str(warning))) from warning
    except MissingConfigException as error:
        raise RequestError(messages.no_such_choice(error, GROUPS)) from error
    except YAMLError as error:  # no YAML, or a tag that would make an object of Python's
        reason = " ".join(str(error).split())
        raise RequestError(f"a file of the config cannot be read ({reason})") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise RequestError(_one_line(error, overrides)) from error
    for group in GROUPS:
        if group not in composed.hydra.runtime.choices:
            raise RequestError(_no_choice(group))
    check_hydra_section(composed)
    return composed


def _no_choice(group: str) -> str:
    """The message for batch=null, ~batch or batch=[05a,05b], none of which makes a choice."""
    some = choices_of(group)[:2]
    if not some:
        return f"{group} must be one choice, a name"
    return (
        f"{group} must be one choice, as in {group}={some[0]}, or with -m several: "
        f"{group}={','.join(some)}"
    )


def make_request(composed: DictConfig, overrides: Sequence[str], run_dir: Path) -> RunRequest:
    """Checks a composed config and makes a request of it.

    Raises:
        RequestError: A value breaks a rule.
    """
    refuse_foreign_code(composed.hydra)
    config = _typed(composed)
    expand_homes(config)
    check(config)
    plan = plan_batch(config.batch, {Word.parse(word).key for word in overrides})
    preset = str(composed.hydra.runtime.choices.batch)
    if (preset == "custom" or "/" in preset) and plan is not None:
        preset = f"{plan.per_device_train_batch_size}x{plan.gradient_accumulation_steps}"
    read_objectives(config.objective)
    try:
        launcher = read_launcher(composed.hydra)
    except OmegaConfBaseException as error:
        raise RequestError(_one_line(error)) from error
    return RunRequest(config, plan, preset, tuple(overrides), run_dir, launcher)


def _typed(composed: DictConfig) -> Config:
    """Turns a config, composed or read back from YAML, into the classes of the schema."""
    plain = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    schema = OmegaConf.structured(Config)
    schema.data = _schema_of(plain, "data", DATA)
    schema.model = _schema_of(plain, "model", MODELS)
    try:
        resolved = OmegaConf.to_container(plain, resolve=True, throw_on_missing=False)
        _refuse_unknown_keys(resolved, schema, ())
        config = OmegaConf.to_object(OmegaConf.merge(schema, resolved))
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise RequestError(f"{key} must be given, as in {key}=…") from error
    except OmegaConfBaseException as error:
        raise RequestError(_one_line(error)) from error
    assert isinstance(config, Config)
    return config


def _schema_of(plain: DictConfig, group: str, schemas: Mapping[str, type]) -> Any:
    source = OmegaConf.select(plain, f"{group}.source")
    if source not in schemas:
        raise RequestError(f"{group}.source is {source}; it must be one of {', '.join(schemas)}")
    return schemas[source]


def _refuse_unknown_keys(plain: Any, schema: DictConfig, path: tuple[str, ...]) -> None:
    """Refuses keys that `+key=value` or a site's own YAML added, since the schema is closed."""
    for key, value in plain.items():
        if key not in list(schema.keys()):
            raise RequestError(_no_such_key(".".join((*path, str(key))), schema))
        own = ".".join((*path, str(key)))
        if isinstance(value, dict) and own not in OPEN_TABLES:
            _refuse_unknown_keys(value, schema[key], (*path, str(key)))
    for key in schema.keys():  # noqa: SIM118 - a DictConfig hides its missing values
        if key not in plain:
            raise RequestError(f"{'.'.join((*path, str(key)))} cannot be removed; set it instead")


def _no_such_key(key: str, siblings: DictConfig) -> str:
    known = transformers_names.answer(key)
    if known is None and "." not in key and messages.key_named(key, all_keys()) is None:
        known = transformers_names.answer(f"{transformers_names.ARGUMENTS}.{key}")
    if known is not None:
        return known
    if key.rpartition(".")[0] in OPEN_TABLES:
        return f"{key} needs a plus in hydra.sweeper.params: ++{key}: VALUES"
    # keys(): a DictConfig hides its missing values when it is iterated over.
    return messages.no_such_key(key, [str(name) for name in siblings.keys()], all_keys())  # noqa: SIM118


def all_keys() -> dict[str, list[str]]:
    """Lists the keys by where they are: "" for the top level, "training", "data=files data".

    A key that every choice of its group has stands under the group alone.
    """
    groups: dict[str, list[str]] = {"": messages.field_names(Config)}
    shared: dict[str, list[str]] = {}
    choices: dict[str, list[str]] = {}
    for group, choice, schema in SECTIONS:
        names = messages.field_names(schema)
        if choice:
            choices[f"{group}={choice} {group}"] = names
            shared[group] = [name for name in shared.get(group, names) if name in names]
        else:
            groups[group] = names
    return groups | shared | choices


def _one_line(error: Exception, overrides: Sequence[str] = ()) -> str:
    """Says in one line what Hydra or omegaconf said in several."""
    if file := re.match(r"In '([^']+)'", str(error)):
        return f"{file[1]}.yaml: {_wrong_in_file(error, overrides)}"
    # Hydra does not chain what it wraps; omegaconf's own errors know their key themselves.
    own = isinstance(error, OmegaConfBaseException)
    inner = error.__cause__ or (None if own else error.__context__)
    cause = inner if isinstance(inner, OmegaConfBaseException) else error
    missing = re.match(r"Could not override '([^']+)'", str(error))
    if missing:
        return _unknown_override(missing.group(1), overrides)
    message = str(cause).splitlines()[0]
    if message.startswith("Config group override must be"):
        for word in map(Word.parse, overrides):
            if word.key in GROUPS and word.value == "null":
                return _no_choice(word.key)
    key = getattr(cause, "full_key", None)
    if not isinstance(cause, OmegaConfBaseException):
        # Hydra's own words say what is wrong, but not always where.
        return f"{message.rstrip('.')}, in {' '.join(overrides)}"
    typed = {word.key: word.value for word in map(Word.parse, overrides)}
    return messages.invalid(key, message, plain_text(typed.get(str(key)) or ""))


def _wrong_in_file(error: Exception, overrides: Sequence[str]) -> str:
    """Says what is wrong in a file of the config, of which Hydra tells the name first."""
    cause, message = error.__context__, str(error).splitlines()[1].strip()
    key = getattr(cause, "full_key", None)
    if isinstance(cause, ConfigKeyError) and key:
        return _unknown_override(key, overrides)
    return messages.invalid(key, message)


def _unknown_override(key: str, overrides: Sequence[str]) -> str:
    if "/" in key:
        return f"{key}: no such group; the groups are: {', '.join(GROUPS)}, hydra/launcher"
    # The choices that were made decide which keys there are.
    groups = (*GROUPS, "hydra/launcher")
    choices = [word for word in overrides if Word.parse(word).key in groups]
    defaults = compose("config", choices, return_hydra_config=key.startswith("hydra"))
    parent = key.rpartition(".")[0]
    siblings = OmegaConf.select(defaults, parent) if parent else defaults
    while parent and not isinstance(siblings, DictConfig):
        key, parent = parent, parent.rpartition(".")[0]
        siblings = OmegaConf.select(defaults, parent) if parent else defaults
    return _no_such_key(key, siblings)
