"""The launcher behind `hydra/launcher=slurm`: hydra-submitit-launcher's, made for long sweeps.

It differs in four things. It writes down the SLURM job of each run. It need not wait. If it waits,
it asks SLURM about the whole sweep at once, and a job that died does not make it raise: the records
of the runs say how they ended. And it can start Python through a container.

It lies in `hydra_plugins` because Hydra takes launchers only from there. It imports submitit only
when it submits, since Hydra imports every plugin for every command.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf

from batchopt.record.read import read_plan
from batchopt.request.paths import folder_name
from batchopt.slurm import jobs as slurm

MIN_POLL_S, MAX_POLL_S = 2.0, 60.0
"""Seconds between two questions to SLURM: a tenth of the time so far, within these bounds."""


@dataclass
class BatchoptSlurmConf(SlurmQueueConf):  # type: ignore[misc]  # it has no types
    """The keys of conf/hydra/launcher/slurm.yaml."""

    _target_: str = "hydra_plugins.batchopt_slurm.BatchoptSlurmLauncher"
    wait: bool = True
    python: str | None = None


ConfigStore.instance().store(
    group="schema/launcher",
    name="slurm",
    node=BatchoptSlurmConf(),
    provider="batchopt_slurm",
)
# A job of SLURM begins with the import of this module.
OmegaConf.register_new_resolver("batchopt_folder", folder_name, replace=True)


class BatchoptSlurmLauncher(SlurmLauncher):  # type: ignore[misc]  # it has no types
    """Submits the runs of a sweep as one job array."""

    def __init__(self, *, wait: bool, python: str | None, **params: Any) -> None:
        """Keeps its own keys apart; `params` are those of sbatch and submitit."""
        super().__init__(**params)
        self.wait = wait
        self.python = python

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submits the runs; returns no results, since the runs' records hold them."""
        from batchopt.sweeps.left import is_over

        assert self.config is not None
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        plan = read_plan(sweep_dir)
        assert plan is not None
        # If a sweep is started again, only runs with work left go into the queue.
        retry = list(self.config.sweep.retry)
        left = {
            job.place: job.number
            for job in plan.jobs
            if job.number is not None and is_over(sweep_dir / job.run_dir, retry) is None
        }
        # The sweeper passes them on in their order, and SLURM starts the tasks of an array in it.
        placed = [
            (place, list(overrides))
            for place, overrides in enumerate(job_overrides, initial_job_idx)
            if place in left
        ]
        if not placed:
            return []
        submitted = self._submit(placed)
        job_ids = {left[place]: job_id for place, job_id in submitted.items()}
        slurm.write_job_ids(sweep_dir, job_ids)
        master = slurm.masters(job_ids.values())
        print(f"submitted: {len(job_ids)} runs as SLURM job {master}", flush=True)
        if self.wait:
            self._wait(sweep_dir, job_ids)
        return []

    def _submit(self, placed: Sequence[tuple[int, list[str]]]) -> dict[int, str]:
        """Submits one array; returns the SLURM job of each run, by its place in the order."""
        import submitit

        own = {"submitit_folder", "max_num_timeout"}
        common = set(BaseQueueConf.__dataclass_fields__)
        executor = submitit.AutoExecutor(
            folder=self.params["submitit_folder"],
            cluster="slurm",
            slurm_max_num_timeout=self.params["max_num_timeout"],
            slurm_python=self.python,
        )
        executor.update_parameters(
            **{
                key if key in common else f"slurm_{key}": value
                for key, value in self.params.items()
                if key not in own
            }
        )
        places = [place for place, _ in placed]
        # The arguments of BaseSubmititLauncher.__call__, one list each.
        try:
            jobs = executor.map_array(
                self,
                [overrides for _, overrides in placed],
                ["hydra.sweep.dir"] * len(places),
                places,
                [f"job_id_for_{place}" for place in places],
                [Singleton.get_state()] * len(places),
            )
        except submitit.core.utils.FailedJobError as error:
            print("batchopt: sbatch refused the sweep; its words stand above", file=sys.stderr)
            raise SystemExit(2) from error
        return {place: str(job.job_id) for place, job in zip(places, jobs, strict=True)}

    def _wait(self, sweep_dir: Path, job_ids: dict[int, str]) -> None:
        """Waits until each job has ended: SLURM says so or, without SLURM, the run has a record."""
        started = time.monotonic()
        waited = set(job_ids.values())
        master = slurm.masters(waited)
        said = ""
        try:
            while True:
                # hydra.sweeper.max_batch_size submits a sweep in parts; other parts come later.
                jobs = [job for job in slurm.sweep_jobs(sweep_dir) if job.job_id in waited]
                counts = Counter(_word(job) for job in jobs)
                words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
                if words != said:
                    print(f"SLURM job {master}: {words}", flush=True)
                    said = words
                if all(job.done for job in jobs):
                    return
                # A long sweep asks seldom: the accounting serves the whole cluster.
                time.sleep(min(MAX_POLL_S, max(MIN_POLL_S, (time.monotonic() - started) / 10)))
        except KeyboardInterrupt:
            print(f"the jobs go on without this command; to end them: scancel {master}")
            raise


def _word(job: slurm.SweepJob) -> str:
    return job.state.state.lower() if job.state else "unknown"
