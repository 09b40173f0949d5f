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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf

from batchopt.record.files import RECORD, SWEEP, read_json
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
        assert self.config is not None
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        # If a sweep is started again, only runs with work left go into the queue.
        over = set(_over(sweep_dir, self.config.sweep.retry))
        numbered = [
            (number, list(overrides))
            for number, overrides in enumerate(job_overrides, initial_job_idx)
            if number not in over
        ]
        if not numbered:
            return []
        job_ids = self._submit(numbered)
        slurm.write_job_ids(sweep_dir, job_ids)
        master = slurm.masters(job_ids.values())
        print(f"submitted: {len(job_ids)} runs as SLURM job {master}", flush=True)
        if self.wait:
            self._wait(sweep_dir, job_ids)
        return []

    def _submit(self, numbered: Sequence[tuple[int, list[str]]]) -> dict[int, str]:
        """Submits one array; returns the SLURM job of each run's number."""
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
        numbers = [number for number, _ in numbered]
        # The arguments of BaseSubmititLauncher.__call__, one list each.
        try:
            jobs = executor.map_array(
                self,
                [overrides for _, overrides in numbered],
                ["hydra.sweep.dir"] * len(numbers),
                numbers,
                [f"job_id_for_{number}" for number in numbers],
                [Singleton.get_state()] * len(numbers),
            )
        except submitit.core.utils.FailedJobError as error:
            print("batchopt: sbatch refused the sweep; its words stand above", file=sys.stderr)
            raise SystemExit(2) from error
        return {number: str(job.job_id) for number, job in zip(numbers, jobs, strict=True)}

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


def _over(sweep_dir: Path, retry: Sequence[str]) -> Iterator[int]:
    """Yields the numbers of the runs that have ended and are not to run again."""
    for job in read_json(sweep_dir / SWEEP)["jobs"]:
        record = read_json(sweep_dir / job["run_dir"] / RECORD)
        if record is not None and record["status"] not in retry:
            yield job["number"]


def _word(job: slurm.SweepJob) -> str:
    return job.state.state.lower() if job.state else "unknown"
