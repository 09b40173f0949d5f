"""What SLURM says: of this job, of other jobs, and of the cluster.

This module alone runs SLURM's commands and reads its environment variables. It never waits for
SLURM longer than a moment: a controller that does not answer is as good as none. Nothing here
submits anything; that is the launcher's (hydra_plugins/batchopt_slurm).
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchopt.run_files import RECORD, RUNNING, SLURM_JOBS, SWEEP, read_json, write_json

TIMEOUT_S = 30.0
"""How long one of SLURM's commands may take."""

LIVE = frozenset(
    {
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "SPECIAL_EXIT",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "RESV_DEL_HOLD",
    }
)
"""States of jobs that may still run. Source: https://slurm.schedmd.com/job_state_codes.html"""


@dataclass(frozen=True, slots=True)
class JobState:
    """What SLURM says of one job.

    `state` is SLURM's word, such as PENDING or OUT_OF_MEMORY; `reason` says why a job waits, or who
    cancelled it; `node` and `elapsed_s` are None for a job that has not started.
    """

    state: str
    reason: str | None = None
    node: str | None = None
    elapsed_s: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the job will not run any more."""
        return self.state not in LIVE


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """Asks for the states of jobs, such as `17` or, of an array, `17_3`.

    Two commands for all of them together. The controller (squeue) knows what is live, and alone
    knows that a preempted job waits again; the accounting (sacct) knows how jobs have ended, also
    long ago. A job that neither knows is absent; without SLURM all are.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    asked = masters(wanted)
    queued = dict(_squeue(asked))
    found = {job_id: state for job_id, state in queued.items() if not state.ended}
    if not wanted <= found.keys():
        # The accounting goes before what the controller says of ended jobs: it knows every step.
        found = queued | dict(_sacct(asked)) | found
    return {job_id: found[job_id] for job_id in wanted & found.keys()}


def version() -> str | None:
    """What `sbatch --version` says, such as `slurm 24.05.2`; None where SLURM is not installed."""
    return next(iter(_lines("sbatch", "--version")), None)


def partitions() -> list[str]:
    """The cluster's partitions; none where its controller does not answer."""
    return sorted(set(_lines("sinfo", "-h", "-o", "%R")))


@dataclass(frozen=True, slots=True)
class SweepJob:
    """One planned run and its SLURM job; the state is None where SLURM does not tell."""

    run_dir: Path
    job_id: str | None
    state: JobState | None

    @property
    def done(self) -> bool:
        """Whether nothing more is to come: SLURM says so or, without SLURM, the record is there."""
        return self.state.ended if self.state else (self.run_dir / RECORD).exists()


def write_job_ids(sweep_dir: Path, job_ids: Mapping[int, str]) -> None:
    """Adds to the sweep's file which SLURM job each run's number is."""
    path = sweep_dir / SLURM_JOBS
    known = read_json(path) or {}
    write_json(path, known | {str(number): job_id for number, job_id in job_ids.items()})


def sweep_jobs(sweep_dir: Path) -> list[SweepJob]:
    """Asks SLURM about every planned run of a sweep."""
    submitted = read_json(sweep_dir / SLURM_JOBS) or {}
    runs: list[tuple[Path, str | None]] = []
    for job in (read_json(sweep_dir / SWEEP) or {"jobs": []})["jobs"]:
        run_dir = sweep_dir / job["run_dir"]
        # Another launcher leaves no list, but a run that has started knows its job.
        running = read_json(run_dir / RUNNING) or {}
        runs.append((run_dir, submitted.get(str(job["number"])) or running.get("slurm_job_id")))
    states = job_states(job_id for _, job_id in runs if job_id)
    return [
        SweepJob(run_dir, job_id, states.get(job_id) if job_id else None)
        for run_dir, job_id in runs
    ]


def masters(job_ids: Iterable[str]) -> str:
    """The jobs, without the elements of their arrays, as scancel and sacct take them."""
    return ",".join(sorted({job_id.split("_")[0] for job_id in job_ids}))


def _squeue(asked: str) -> Iterator[tuple[str, JobState]]:
    words = ("squeue", "-h", "-r", "-t", "all", "-j", asked, "-o", "%i|%T|%r|%N|%M")
    for line in _lines(*words):
        job_id, state, reason, node, elapsed = line.split("|")
        yield job_id, _state(state, reason, node, _seconds(elapsed))


def _sacct(asked: str) -> Iterator[tuple[str, JobState]]:
    found: dict[str, JobState] = {}
    words = ("sacct", "-n", "-P", "-j", asked, "-o", "JobID,State,Reason,NodeList,ElapsedRaw")
    for line in _lines(*words):
        job_id, state, reason, node, elapsed = line.split("|")
        job_id, _, step = job_id.partition(".")
        if not step:
            for each in _expand(job_id):
                found[each] = _state(state, reason, node, float(elapsed or 0))
        elif state == "OUT_OF_MEMORY" and found[job_id].state == "FAILED":
            # The job only saw its step fail; the step knows why.
            found[job_id] = _state(state, reason, node, found[job_id].elapsed_s)
    yield from found.items()


def _state(state: str, reason: str, node: str, elapsed_s: float | None) -> JobState:
    state, _, by = state.partition(" ")  # "CANCELLED by 1000"
    started = node not in ("", "None assigned")
    if started or reason == "None":  # the accounting keeps why a job once waited
        reason = ""
    return JobState(
        state=state,
        reason=by or reason or None,
        node=node if started else None,
        elapsed_s=elapsed_s if started else None,
    )


def _expand(job_id: str) -> Iterator[str]:
    """Takes `3_[1,4-6%2]`, the waiting part of an array, apart."""
    match = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", job_id)
    if match is None:
        yield job_id
        return
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        yield from (f"{match[1]}_{index}" for index in range(int(first), int(last or first) + 1))


def _seconds(elapsed: str) -> float | None:
    """Reads `1-02:03:04`, `2:03:04` or `3:04`; None for INVALID."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", elapsed)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _lines(*words: str) -> list[str]:
    """The lines that a command of SLURM prints; none where it fails or is not there."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
