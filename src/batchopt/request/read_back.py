"""Reads the request of a run back from the files that Hydra wrote, and hashes a config."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from batchopt.errors import RequestError
from batchopt.record.keys import changes_no_number
from batchopt.request.compose import RunRequest, make_request
from batchopt.request.config import Config

_Kind = TypeVar("_Kind", DictConfig, ListConfig)


def read_run(run_dir: Path) -> RunRequest:
    """Reads the request of a run back from the files that Hydra wrote into its directory.

    Raises:
        RequestError: The directory is no run's, or its config no longer fits the schema.
    """
    folder = run_dir / ".hydra"
    if not (folder / "hydra.yaml").is_file():
        raise RequestError(f"{run_dir} is no run's directory: it has no .hydra/hydra.yaml")
    composed = _load(folder / "config.yaml", DictConfig)
    composed.hydra = _hydra_section(folder / "hydra.yaml")
    overrides = _load(folder / "overrides.yaml", ListConfig)
    return make_request(composed, [str(word) for word in overrides], run_dir)


def read_beginning(run_dir: Path) -> tuple[list[str], str]:
    """Returns the overrides with which a run was begun, and the folder in which.

    Raises:
        RequestError: The files that Hydra wrote are damaged.
    """
    folder = run_dir / ".hydra"
    overrides = _load(folder / "overrides.yaml", ListConfig)
    cwd = OmegaConf.select(_hydra_section(folder / "hydra.yaml"), "runtime.cwd")
    return [str(word) for word in overrides], str(cwd or ".")


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
    """Hashes everything in a config that decides a run's numbers (see `record.keys`)."""
    deciding = _deciding(dataclasses.asdict(config))
    text = json.dumps(deciding, sort_keys=True, default=_enum_name)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _deciding(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    kept = {name: value for name, value in section.items() if not changes_no_number(prefix + name)}
    return {
        name: _deciding(value, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in kept.items()
    }


def _enum_name(value: object) -> str:
    assert isinstance(value, Enum)
    return value.name
