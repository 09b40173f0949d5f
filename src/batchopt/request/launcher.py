"""What runs the jobs of a sweep: the choice of the group hydra/launcher, and its keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

_HYDRA_BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher, as composed.

    `choice` is the name that was chosen, perhaps of a site's own profile, so its class alone tells
    what it does. `options` are the keys of hydra.launcher.
    """

    choice: str = "basic"
    target: str = _HYDRA_BASIC
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_basic(self) -> bool:
        """Whether it is Hydra's own, which runs one job after the other in this process."""
        return self._class == "BasicLauncher"

    @property
    def on_slurm(self) -> bool:
        """Whether SLURM runs the jobs."""
        return self._class.endswith("SlurmLauncher")

    @property
    def is_here(self) -> bool:
        """Whether the jobs run on this machine."""
        return self.is_basic or self._class == "LocalGpusLauncher"

    @property
    def _class(self) -> str:
        return self.target.rpartition(".")[2]


def read_launcher(hydra: DictConfig) -> Launcher:
    """Reads the launcher from Hydra's own section of a composed config."""
    section = OmegaConf.select(hydra, "launcher")
    if not isinstance(section, DictConfig):
        return Launcher()
    options = {str(key): OmegaConf.select(section, str(key)) for key in section}
    choices = OmegaConf.select(hydra, "runtime.choices") or {}
    choice = str(choices.get("hydra/launcher", "basic"))
    return Launcher(choice, str(options.get("_target_", _HYDRA_BASIC)), options)
