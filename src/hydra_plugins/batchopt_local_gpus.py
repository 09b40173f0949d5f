"""Makes `hydra/launcher=local_gpus` known to Hydra; `batchopt.sweeps.local_gpus` does the work.

Hydra imports every module of the namespace package `hydra_plugins` whenever it starts, whichever
launcher is chosen. So this module is light, and the namespace has no __init__.py.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalGpusLauncher(Launcher):
    """Runs the jobs of a sweep here, in parallel, each on a GPU of its own."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what Hydra passes on before it launches."""
        from batchopt.sweeps.local_gpus import Launcher as LocalGpus

        self._local_gpus = LocalGpus(hydra_context, task_function, config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs a batch of jobs to their end."""
        return self._local_gpus.run(list(enumerate(job_overrides, initial_job_idx)))
