"""From command-line words to checked requests.

This module alone knows Hydra's composition and its errors; `DictConfig` ends here. It imports no
torch, so that a wrong request is refused in a fraction of a second.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from batchopt import wording
from batchopt.batch_plan import (
    ACCUMULATION,
    EFFECTIVE,
    PER_DEVICE,
    BatchPlan,
    divisor_pairs,
    plan_batch,
)
from batchopt.config import (
    BatchConfig,
    Config,
    FilesDataConfig,
    HubDataConfig,
    PretrainedModelConfig,
    SampleDataConfig,
    TinyModelConfig,
    check,
)
from batchopt.errors import RequestError
from batchopt.objective import directions, read_objectives

_Kind = TypeVar("_Kind", DictConfig, ListConfig)

GROUPS = ("batch", "data", "model", "training", "metric", "device", "tracker")
EXPERIMENT = "experiment"
"""Group of files that set several keys at once; it has no key of its own."""
DATA = {"sample": SampleDataConfig, "files": FilesDataConfig, "hub": HubDataConfig}
DIVISORS = "batch=divisors"
MODELS = {"tiny": TinyModelConfig, "pretrained": PretrainedModelConfig}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run as it was asked for, checked.

    `overrides` are the words that made it; `preset` is the choice of the group `batch`, or the
    pair, such as "32x2", of batch=custom; `plan` is None for batch=auto.
    """

    config: Config
    plan: BatchPlan | None
    preset: str
    overrides: tuple[str, ...]
    run_dir: Path


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep; `run_dir` is relative to the sweep's directory."""

    number: int
    request: RunRequest
    run_dir: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs of one multirun, in the order in which Hydra launches them.

    `hydra_overrides` are to be added to the command line so that Hydra uses the same directories.
    In a `search`, where a sweeper proposes each run from the results of those before, the jobs are
    not those that will run but stand for them: every value that is named is in one of them.
    `launcher` is the config of what runs the jobs, `batch_size` as many as it gets at once.
    """

    directory: Path
    jobs: tuple[Job, ...]
    hydra_overrides: tuple[str, ...]
    launcher: Mapping[str, Any]
    batch_size: int
    search: bool = False

    @property
    def on_slurm(self) -> bool:
        """Whether SLURM runs the jobs."""
        return str(self.launcher["_target_"]).endswith("SlurmLauncher")


def conf_dir() -> Path:
    """The folder conf/: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def choices_of(group: str) -> list[str]:
    """The choices of a group, in order."""
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


def register_schemas() -> None:
    """Makes the schemas known to Hydra; may be called again."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in DATA.items():
        store.store(group="schema/data", name=name, node=node)
    for name, node in MODELS.items():
        store.store(group="schema/model", name=name, node=node)


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


def compose_run(overrides: Sequence[str]) -> RunRequest:
    """Composes and checks one run.

    Raises:
        RequestError: An override names no key or choice, or a value breaks a rule.
    """
    with _hydra():
        _refuse_sweeps(overrides)
        composed = _compose(overrides)
        return _request(composed, overrides, Path(str(composed.hydra.run.dir)))


def compose_sweep(overrides: Sequence[str]) -> Sweep:
    """Composes and checks every run of a sweep before any of them starts.

    Raises:
        RequestError: As `compose_run`, for the first run that cannot be.
    """
    with _hydra():
        overrides = [*_params(overrides), *overrides]
        parsed = _parse(overrides)
        # Only what varies belongs into the names of the run directories: a path among the
        # overrides would otherwise make folders of its own.
        constant = [
            override.key_or_group  # without the plus, which override_dirname does not see either
            for override in parsed
            if not override.is_sweep_override() and override.key_or_group != "batch"
        ]
        exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"
        hydra_overrides: tuple[str, ...] = (exclude,) if constant else ()
        # Nothing is swept: Hydra would name the one run "0_".
        if len(constant) == len(parsed) and "hydra.sweep.subdir" not in constant:
            name = "${hydra.job.num}_batch=${hydra.runtime.choices.batch}"
            hydra_overrides += (f"hydra.sweep.subdir='{name}'",)
        swept = [override for override in parsed if not _is_hydra(override)]
        search = any(_is_sweeper(override) for override in parsed)
        batches = _one_by_one(swept) if search else _every_combination(swept)
        own = [override.input_line or "" for override in parsed if _is_hydra(override)]
        jobs: list[Job] = []
        directory = ""
        for number, words in enumerate(batches):
            composed = _compose([*words, *own, *hydra_overrides])
            OmegaConf.set_struct(composed, False)
            composed.hydra.job.num = number
            directory = directory or str(composed.hydra.sweep.dir)
            launcher = composed.hydra.launcher
            batch_size = composed.hydra.sweeper.get("max_batch_size")
            run_dir = str(composed.hydra.sweep.subdir)
            if not Path(directory, run_dir).resolve().is_relative_to(Path(directory).resolve()):
                raise RequestError(
                    f"hydra.sweep.subdir is {run_dir}; a run must stay inside its sweep"
                )
            request = _request(composed, words, Path(directory, run_dir))
            jobs.append(Job(number, request, run_dir))
        if search:
            hydra_overrides += _directions(jobs[0].request, composed.hydra.sweeper, constant)
    return Sweep(
        directory=Path(directory),
        jobs=tuple(jobs),
        hydra_overrides=(*hydra_overrides, quoted("hydra.sweep.dir", Path(directory))),
        launcher={str(key): OmegaConf.select(launcher, str(key)) for key in launcher},
        batch_size=min(len(jobs), batch_size or len(jobs)),
        search=search,
    )


def _every_combination(overrides: list[Override]) -> list[list[str]]:
    try:
        batches = BasicSweeper.split_arguments(overrides, None)
    except HydraException as error:
        raise RequestError(
            "an interval has no end of values; name some, as in seed=1,2,3, or let a search choose "
            f"them with hydra/sweeper=optuna ({error})"
        ) from error
    return list(itertools.chain.from_iterable(batches))


def _one_by_one(overrides: list[Override]) -> list[list[str]]:
    """Runs that name each value of a search at least once, of an interval both ends."""
    values = [(override.get_key_element(), _values(override)) for override in overrides]
    first = [f"{key}={own[0]}" for key, own in values]
    others = [
        [*first[:at], f"{key}={value}", *first[at + 1 :]]
        for at, (key, own) in enumerate(values)
        for value in own[1:]
    ]
    return [first, *others]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_interval_sweep():
        interval = override.value()
        assert isinstance(interval, IntervalSweep)
        return [str(interval.start), str(interval.end)]
    return list(override.sweep_string_iterator())


def _is_sweeper(override: Override) -> bool:
    return override.get_key_element() == "hydra/sweeper" and override.value() != "basic"


def _directions(
    request: RunRequest, sweeper: DictConfig, constant: Sequence[str]
) -> tuple[str, ...]:
    """Tells the sweeper which way each objective is better, or checks what it has been told."""
    names = read_objectives(request.config.objective)
    if not names:
        raise RequestError(
            "objective must be given for a search, as in objective=rouge_f1 or "
            "'objective=[rouge_f1,steps_per_second]'"
        )
    right = directions(names)
    if "hydra.sweeper.direction" not in constant:
        return (f"hydra.sweeper.direction=[{','.join(right)}]",)
    named = sweeper.direction if isinstance(sweeper.direction, ListConfig) else [sweeper.direction]
    asked = [getattr(direction, "name", direction) for direction in named]
    if asked != right:
        raise RequestError(
            f"hydra.sweeper.direction is {', '.join(asked)}, and {', '.join(names)} want "
            f"{', '.join(right)}; leave it out: it follows from objective"
        )
    return ()


def _params(overrides: Sequence[str]) -> list[str]:
    """What an experiment sweeps over; Hydra's sweeper puts it before the person's own words."""
    constant = [word.input_line or "" for word in _parse(overrides) if not word.is_sweep_override()]
    params = OmegaConf.select(_compose(constant), "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def preset_plans(overrides: Sequence[str]) -> dict[str, BatchPlan]:
    """The plan of every preset of the group `batch`, with the other overrides as they are."""
    pair = ("batch", PER_DEVICE, ACCUMULATION)
    others = [word for word in overrides if word.split("=", 1)[0] not in pair]
    names = sorted(file.stem for file in (conf_dir() / "batch").glob("*.yaml"))
    names.remove("custom")
    plans = {name: compose_run([f"batch={name}", *others]).plan for name in names}
    asked = compose_run(overrides)
    plans.setdefault(asked.preset, asked.plan)
    return {name: plan for name, plan in plans.items() if plan is not None}


def read_run(run_dir: Path) -> RunRequest:
    """Reads back the request of a run from the files that Hydra wrote into its directory.

    Raises:
        RequestError: The directory is no run's, or its config no longer fits the schema.
    """
    folder = run_dir / ".hydra"
    if not (folder / "hydra.yaml").is_file():
        raise RequestError(f"{run_dir} is no run's directory: it has no .hydra/hydra.yaml")
    composed = _load(folder / "config.yaml", DictConfig)
    composed.hydra = _hydra_section(folder / "hydra.yaml")
    overrides = _load(folder / "overrides.yaml", ListConfig)
    return _request(composed, [str(word) for word in overrides], run_dir)


def read_beginning(run_dir: Path) -> tuple[list[str], str]:
    """The overrides that a run was begun with, and the folder in which.

    Raises:
        RequestError: The files that Hydra wrote are damaged.
    """
    folder = run_dir / ".hydra"
    overrides = _load(folder / "overrides.yaml", ListConfig)
    cwd = OmegaConf.select(_hydra_section(folder / "hydra.yaml"), "runtime.cwd")
    return [str(word) for word in overrides], str(cwd or ".")


def quoted(key: str, value: Path) -> str:
    """An override that Hydra reads as just this path, whatever characters are in it."""
    text = str(value).replace("'", "\\'")
    return f"{key}='{text}'"


def _hydra_section(path: Path) -> DictConfig:
    section = _load(path, DictConfig).get("hydra")
    if not isinstance(section, DictConfig):
        raise RequestError(f"{path} has no section hydra")
    return section


def _load(path: Path, kind: type[_Kind]) -> _Kind:
    """Reads a YAML file; omegaconf's loader makes no objects of Python's."""
    try:
        loaded = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{path} cannot be read as YAML ({reason})") from error
    if not isinstance(loaded, kind):
        raise RequestError(f"{path} does not hold what a run wrote there")
    return loaded


def config_hash(config: Config) -> str:
    """A name for everything that decides a run's numbers.

    Where the cache is, what is checked or waited for before, when a run is ended from outside, who
    is told of it and what of it counts do not.
    """
    plain = dataclasses.asdict(config)
    for name in ("cache_dir", "verify", "run", "sweep", "tracker", "objective"):
        del plain[name]
    del plain["device"]["wait_for_free"]
    text = json.dumps(plain, sort_keys=True, default=_enum_name)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _enum_name(value: object) -> str:
    assert isinstance(value, Enum)
    return value.name


def _hydra() -> initialize_config_dir:
    register_schemas()
    GlobalHydra.instance().clear()
    return initialize_config_dir(str(conf_dir()), job_name="train", version_base="1.3")


def _parse(overrides: Sequence[str]) -> list[Override]:
    loader = GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for word in overrides:
        try:
            parsed += parser.parse_overrides([word])
        except OverrideParseException as error:
            choices = {group: choices_of(group) for group in GROUPS}
            raise RequestError(wording.unreadable(word, choices)) from error
    for override in parsed:
        if not override.key_or_group:
            raise RequestError(f"{override.input_line} names no key: write key=value")
    return parsed


def _is_hydra(override: Override) -> bool:
    return override.get_key_element().lstrip("+~").startswith("hydra")


def _refuse_sweeps(overrides: Sequence[str]) -> None:
    for override in _parse(overrides):
        if override.is_sweep_override():
            raise RequestError(
                f"{override.input_line} names several values; add -m to run them as a sweep"
            )


def _compose(overrides: Sequence[str]) -> DictConfig:
    _parse(overrides)
    try:
        composed = compose("config", list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        raise RequestError(wording.no_such_choice(error, GROUPS)) from error
    except YAMLError as error:  # no YAML, or a tag that would make an object of Python's
        reason = " ".join(str(error).split())
        raise RequestError(f"a file of the config cannot be read ({reason})") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise RequestError(_one_line(error, overrides)) from error
    for group in GROUPS:
        if group not in composed.hydra.runtime.choices:
            raise RequestError(_no_choice(group))
    return composed


def _no_choice(group: str) -> str:
    """After batch=null, ~batch or batch=[05a,05b], which is a value and chooses nothing."""
    some = choices_of(group)[:2]
    return (
        f"{group} must be one choice, as in {group}={some[0]}, or with -m several: "
        f"{group}={','.join(some)}"
    )


def _request(composed: DictConfig, overrides: Sequence[str], run_dir: Path) -> RunRequest:
    _refuse_foreign_code(composed.hydra, ())
    config = _typed(composed)
    check(config)
    named = {word.split("=", 1)[0].lstrip("+") for word in overrides}
    plan = plan_batch(config.batch, named)
    preset = str(composed.hydra.runtime.choices.batch)
    if preset == "custom" and plan is not None:
        preset = f"{plan.per_device_train_batch_size}x{plan.gradient_accumulation_steps}"
    read_objectives(config.objective)
    return RunRequest(config, plan, preset, tuple(overrides), run_dir)


_NAMES_CODE = {
    "_target_": ("hydra._internal.", "hydra.experimental.", "hydra_plugins.", "optuna.samplers."),
    "custom_search_space": ("None",),  # Optuna's sweeper would call it
    # logging.config.dictConfig, which gets Hydra's logging groups, calls what these name.
    "class": ("logging.", "colorlog."),
    "()": ("colorlog.",),
}
"""Keys of Hydra's own config that name something to call, and what they may name."""


def _refuse_foreign_code(node: Any, path: tuple[str, ...]) -> None:
    """Hydra runs what a `_target_` names; a config from somebody else could name anything."""
    if isinstance(node, DictConfig):
        for key in node:
            value = node._get_node(key)
            if key in _NAMES_CODE and not str(value).startswith(_NAMES_CODE[key]):
                raise RequestError(
                    f"{'.'.join(('hydra', *path, key))} is {value}; only Hydra's own classes and "
                    "its plugins, and Python's logging, may be named"
                )
            _refuse_foreign_code(value, (*path, str(key)))


def _typed(composed: DictConfig) -> Config:
    """Turns a composed config, or one read back from YAML, into the classes of the schema."""
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
    """Hydra lets `+key=value` and a site's own YAML add keys; the schema is closed."""
    for key, value in plain.items():
        if key not in list(schema.keys()):
            raise RequestError(_no_such_key(".".join((*path, str(key))), schema))
        if isinstance(value, dict):
            _refuse_unknown_keys(value, schema[key], (*path, str(key)))
    for key in schema.keys():  # noqa: SIM118 - a DictConfig hides its missing values
        if key not in plain:
            raise RequestError(f"{'.'.join((*path, str(key)))} cannot be removed; set it instead")


def _no_such_key(key: str, siblings: DictConfig) -> str:
    # keys(): a DictConfig hides its missing values when it is iterated over.
    return wording.no_such_key(key, [str(name) for name in siblings.keys()], _keys_elsewhere())  # noqa: SIM118


def _keys_elsewhere() -> dict[str, list[str]]:
    groups = {name: type(getattr(Config(), name)) for name in wording.field_names(Config)}
    schemas = {name: schema for name, schema in groups.items() if is_dataclass(schema)}
    schemas |= {f"data={name} data": schema for name, schema in DATA.items()}
    schemas |= {f"model={name} model": schema for name, schema in MODELS.items()}
    return {place: wording.field_names(schema) for place, schema in schemas.items()}


def _one_line(error: Exception, overrides: Sequence[str] = ()) -> str:
    """Says in one line what Hydra or omegaconf said in several."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    missing = re.match(r"Could not override '([^']+)'", str(error))
    if missing:
        return _unknown_override(missing.group(1), overrides)
    message = str(cause).splitlines()[0]
    if message.startswith("Config group override must be"):
        chosen = [word.split("=", 1) for word in overrides if word.split("=", 1)[0] in GROUPS]
        empty = [group for group, *choice in chosen if choice == ["null"]]
        if empty:
            return _no_choice(empty[0])
    key = getattr(cause, "full_key", None)
    if not isinstance(cause, OmegaConfBaseException):
        # Hydra's own words say what is wrong, but not always where.
        return f"{message.rstrip('.')}, in {' '.join(overrides)}"
    return wording.invalid(key, message)


def _unknown_override(key: str, overrides: Sequence[str]) -> str:
    if "/" in key:
        return f"{key}: no such group; the groups are: {', '.join(GROUPS)}, hydra/launcher"
    # The choices that were made decide which keys there are.
    choices = [word for word in overrides if word.split("=", 1)[0] in (*GROUPS, "hydra/launcher")]
    defaults = compose("config", choices, return_hydra_config=key.startswith("hydra"))
    parent = key.rpartition(".")[0]
    siblings = OmegaConf.select(defaults, parent) if parent else defaults
    while parent and not isinstance(siblings, DictConfig):
        key, parent = parent, parent.rpartition(".")[0]
        siblings = OmegaConf.select(defaults, parent) if parent else defaults
    return _no_such_key(key, siblings)
