"""Writes the records of runs whose SLURM job took their supervisor with it, or never started it.

Memory limits of a whole job, failed nodes and cancelled jobs leave nobody who could write. Whoever
reads the sweep next asks SLURM and writes what it says, once; a record that is there stays.
"""

from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.attempts import SCHEMA_VERSION, earlier_attempts, over_attempts
from batchopt.record.metrics import METRICS
from batchopt.record.read import read_plan
from batchopt.request.read_back import config_hash, read_run
from batchopt.slurm import jobs as slurm


def settle(sweep_dir: Path) -> list[Path]:
    """Writes the missing records of a sweep's ended jobs; returns their run directories.

    Does nothing where there is no SLURM, or the sweep never was there.
    """
    plan = read_plan(sweep_dir)
    if plan is None:
        return []
    settled = []
    planned = {sweep_dir / job["run_dir"]: job for job in plan["jobs"]}
    for job in slurm.sweep_jobs(sweep_dir, without_record=True):
        if job.state is not None and job.state.ended:
            _write_record(job, planned[job.run_dir])
            settled.append(job.run_dir)
    return settled


def _write_record(job: slurm.SweepJob, planned: dict[str, Any]) -> None:
    """Writes what the run's files and SLURM tell; what only the run knew stays unknown."""
    assert job.state is not None
    run_dir = job.run_dir
    status, cause = slurm.ending(job.state)
    running = files.read_json(run_dir / files.RUNNING) or {}
    attempts = earlier_attempts(run_dir)
    if attempts and attempts[-1]["ended_at"] is None:
        attempts[-1] |= {"status": status, "cause": cause}
    last = attempts[-1] if attempts else {}
    try:
        hashed = config_hash(read_run(run_dir).config)
    except RequestError:  # it never started
        hashed = None
    files.write_json(
        run_dir / files.RECORD,
        {
            "schema_version": SCHEMA_VERSION,
            "status": status,
            "cause": cause,
            "phase": last.get("phase"),
            "step": last.get("step"),
            "started_at": running.get("started_at"),
            "ended_at": None,
            "preset": planned["preset"],
            "seed": planned["seed"],
            "overrides": planned["overrides"],
            "plan": {
                key: planned[key]
                for key in (
                    "per_device_train_batch_size",
                    "gradient_accumulation_steps",
                    "effective_batch_size",
                )
            },
            "metrics": dict.fromkeys(METRICS) | over_attempts(attempts),
            "attempts": attempts,
            "environment": {
                "hostname": running.get("hostname") or job.state.node,
                "slurm_job_id": job.job_id,
                "device_name": running.get("device_name"),
                "device_uuid": running.get("device_uuid"),
            },
            "data": None,
            "model": None,
            "data_fingerprint": None,
            "config_hash": hashed,
            "code_hash": None,
            "traceback": None,
        },
    )
    files.release(run_dir)
    (run_dir / files.RUNNING).unlink(missing_ok=True)
