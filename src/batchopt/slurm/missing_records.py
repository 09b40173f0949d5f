"""Writes record.json for SLURM jobs that ended before their supervisor could, or never started.

Memory limits of a whole job, failed nodes and cancelled jobs leave no process that could write.
Whoever reads the sweep next asks SLURM and writes what it says. An existing record stays as it is.
"""

from dataclasses import replace
from pathlib import Path

from batchopt.errors import RequestError
from batchopt.record.attempts import earlier_attempts
from batchopt.record.documents import BATCH, PlannedRun, Record, Running
from batchopt.record.read import read_plan, read_running
from batchopt.record.write import write_record
from batchopt.request.read_back import config_hash, read_run
from batchopt.slurm import jobs as slurm


def write_missing_records(sweep_dir: Path) -> list[Path]:
    """Writes the missing records of a sweep's ended jobs; returns their run directories.

    Does nothing if SLURM does not answer, or the directory holds no sweep.

    Raises:
        RequestError: sweep.json or a file of such a run is damaged.
    """
    plan = read_plan(sweep_dir)
    if plan is None:
        return []
    written = []
    planned = {sweep_dir / job.run_dir: job for job in plan.jobs}
    for job in slurm.sweep_jobs(sweep_dir, without_record=True):
        if job.state is not None and job.state.ended:
            _write_record(job, job.state, planned[job.run_dir])
            written.append(job.run_dir)
    return written


def _write_record(job: slurm.SweepJob, state: slurm.JobState, planned: PlannedRun) -> None:
    """Writes what the run's files and SLURM tell; the rest stays null."""
    status, cause = slurm.ending(state)
    running = read_running(job.run_dir) or Running()
    attempts = earlier_attempts(job.run_dir)
    if attempts and attempts[-1].ended_at is None:
        attempts[-1] = replace(attempts[-1], status=status, cause=cause)
    try:
        hashed = config_hash(read_run(job.run_dir).config)
    except RequestError:  # it never started
        hashed = None
    write_record(
        job.run_dir,
        Record(
            status=status,
            cause=cause,
            started_at=running.started_at,
            preset=planned.preset,
            seed=planned.seed,
            sequence=planned.place,
            overrides=planned.overrides,
            plan={key: getattr(planned, key) for key in BATCH},
            attempts=tuple(attempts),
            environment={
                "hostname": running.hostname or state.node,
                "slurm_job_id": job.job_id,
                "device_name": running.device_name,
                "device_uuid": running.device_uuid,
            },
            config_hash=hashed,
        ),
    )
