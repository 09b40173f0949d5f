"""Reads the request of a run back from what Hydra wrote, and names what decides its numbers."""

import dataclasses
import hashlib
import json
from enum import Enum
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from batchopt.errors import RequestError
from batchopt.request.compose import RunRequest, make_request
from batchopt.request.config import Config

_Kind = TypeVar("_Kind", DictConfig, ListConfig)


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
    return make_request(composed, [str(word) for word in overrides], run_dir)


def read_beginning(run_dir: Path) -> tuple[list[str], str]:
    """The overrides that a run was begun with, and the folder in which.

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
