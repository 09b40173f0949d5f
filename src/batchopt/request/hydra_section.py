"""Reads and checks Hydra's own section of a composed config."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from batchopt.errors import RequestError
from batchopt.request import messages

_NAMES_CODE = {
    "_target_": ("hydra._internal.", "hydra.experimental.", "hydra_plugins.", "optuna.samplers."),
    "custom_search_space": ("None",),  # Optuna's sweeper would call it
    # logging.config.dictConfig, which gets Hydra's logging groups, calls what these name.
    "class": ("logging.", "colorlog."),
    "()": ("colorlog.",),
}
"""Keys of Hydra's own config that name something to call, and how such a name may begin."""


def refuse_foreign_code(node: Any, path: tuple[str, ...] = ()) -> None:
    """Refuses to call what a `_target_` names unless it is known: a stranger's config may lie.

    Raises:
        RequestError: A key names something else.
    """
    if isinstance(node, DictConfig):
        for key in node:
            value = node._get_node(key)
            if key in _NAMES_CODE and not str(value).startswith(_NAMES_CODE[key]):
                raise RequestError(
                    f"{'.'.join(('hydra', *path, key))} is {value}; only Hydra's own classes and "
                    "its plugins, and Python's logging, may be named"
                )
            refuse_foreign_code(value, (*path, str(key)))


def read_hydra_value(composed: DictConfig, key: str) -> Any:
    """Reads a value such as hydra.sweep.subdir, with what it refers to put in.

    Raises:
        RequestError: What it refers to is not there.
    """
    try:
        return OmegaConf.select(composed, key)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise RequestError(messages.invalid(str(error.full_key or key), reason)) from error


def read_hydra_path(composed: DictConfig, key: str) -> Path:
    """Reads a folder such as hydra.run.dir; `~` at its beginning is the home.

    Raises:
        RequestError: It has no value, or what it refers to is not there.
    """
    value = read_hydra_value(composed, key)
    if value in (None, ""):
        raise RequestError(
            f"{key} is {'null' if value is None else 'empty'}; it must name a folder"
        )
    return Path(os.path.expanduser(str(value)))  # noqa: PTH111 - leaves an unknown user's ~ alone


def check_hydra_section(composed: DictConfig) -> None:
    """Checks the section of a config that has just been composed.

    Raises:
        RequestError: It names an environment variable that is not set, or a key would keep the runs
            from finding their files.
    """
    for key, error in _unset_variables(composed.hydra, "hydra"):
        # These two repeat the words; the key that a word sets says more.
        if not key.startswith(("hydra.overrides.", "hydra.job.override_dirname")):
            raise RequestError(messages.invalid(key, str(error).splitlines()[0])) from error
    if read_hydra_value(composed, "hydra.job.chdir"):
        raise RequestError(
            "hydra.job.chdir is true; leave it out: relative paths count from the folder in which "
            "the command was given, and each run has a folder of its own anyway"
        )
    subdir = read_hydra_value(composed, "hydra.output_subdir")
    if subdir != ".hydra":
        raise RequestError(
            f"hydra.output_subdir is {'null' if subdir is None else subdir}; leave it out: a run "
            "reads its config back from .hydra"
        )
    most = read_hydra_value(composed, "hydra.sweeper.max_batch_size")
    if most is not None and most < 1:
        raise RequestError(f"hydra.sweeper.max_batch_size is {most}; it must be 1 or more")


def _unset_variables(node: Any, path: str) -> Iterator[tuple[str, Exception]]:
    """Yields the keys that name an environment variable that is not set."""
    keys: list[Any] = list(node.keys()) if isinstance(node, DictConfig) else [*range(len(node))]
    for key in keys:
        name = f"{path}.{key}"
        value = node._get_node(key)
        if isinstance(value, DictConfig | ListConfig):
            if not (value._is_none() or value._is_missing() or value._is_interpolation()):
                yield from _unset_variables(value, name)
        elif "${oc.env:" in str(value._value()):
            try:
                node[key]
            except InterpolationResolutionError as error:
                yield name, error
