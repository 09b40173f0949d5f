"""Asks SLURM about jobs: the one that this process runs in, and those of a sweep.

Every question has a short time limit: a controller that does not answer counts as none. The
launcher (hydra_plugins/batchopt_slurm) submits, `preflight` asks what the cluster would take, and
`missing_records` writes the records of jobs that could not.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from batchopt.errors import RequestError
from batchopt.record.files import RECORD, RUNNING, SLURM_JOBS, SWEEP, read_json, write_json
from batchopt.record.statuses import Status

TIMEOUT_S = 30.0
"""Seconds that one of SLURM's commands may take."""

HURRY_S = 5.0
"""The same in a job that is about to be killed: clusters kill it 30 s after SIGTERM."""

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
    """The state of one job.

    `state` is SLURM's word, such as PENDING or OUT_OF_MEMORY. `reason` says why a job waits or who
    cancelled it. `node` and `elapsed_s` are None for a job that has not started. `inferred` says
    that SLURM has no row for this job, and its array tells how it ended.
    """

    state: str
    reason: str | None = None
    node: str | None = None
    elapsed_s: float | None = None
    inferred: bool = False

    @property
    def ended(self) -> bool:
        """Whether the job will run no more."""
        return self.state not in LIVE


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """Asks for the states of jobs, such as `17` or, of an array, `17_3`.

    Two commands answer for all of them. The controller (squeue) knows live jobs, and only it knows
    that a preempted job waits again. The accounting (sacct) knows how jobs ended, also long ago. A
    job that neither knows is absent from the result; without SLURM every job is.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    asked = masters(wanted)
    queued = _squeue(asked)
    found = {job_id: state for job_id, state in (queued or {}).items() if not state.ended}
    if not wanted <= found.keys():
        rows, arrays = _sacct(asked)
        waiting = {job_id: state for job_id, state in arrays.items() if not state.ended}
        # The controller does not say who cancelled a job in the queue.
        cancelled = {
            job_id: arrays[job_id]
            for job_id, state in (queued or {}).items()
            if state.ended and state.node is None and job_id in arrays.keys() - waiting.keys()
        }
        # Of ended jobs the accounting knows more than the controller: it knows every step.
        found = waiting | (queued or {}) | cancelled | rows | found
        if queued is not None:
            found |= _never_started(wanted - queued.keys(), rows, arrays)
    return {job_id: found[job_id] for job_id in wanted & found.keys()}


def _never_started(
    missing: Set[str], rows: Mapping[str, JobState], arrays: Mapping[str, JobState]
) -> dict[str, JobState]:
    """Finds elements of arrays that were cancelled in the queue: SLURM forgets them.

    The controller has answered and does not know the elements `missing`. The accounting still has
    their array, and either no row for them or one that they wait: it may be late by minutes. An
    accounting that knows only the array's other ends proves nothing without the controller.
    """
    known = {job_id.split("_")[0] for job_id in [*rows, *arrays]}
    unclear = {job_id.split("_")[0] for job_id in arrays if "[" in job_id}
    found = {}
    for job_id in missing:
        if "_" not in job_id or job_id.split("_")[0] not in known - unclear:
            continue
        if job_id in rows and rows[job_id].state != "PENDING":
            continue
        array = arrays.get(job_id)
        ending = array if array is not None and array.ended else JobState("CANCELLED")
        found[job_id] = replace(ending, inferred=True)
    return found


def version() -> str | None:
    """Returns what `sbatch --version` prints, such as `slurm 24.05.2`; None without SLURM."""
    return next(iter(_lines("sbatch", "--version")), None)


def partitions() -> list[str]:
    """Lists the cluster's partitions; none if its controller does not answer."""
    return sorted(set(_lines("sinfo", "-h", "-o", "%R")))


@dataclass(frozen=True, slots=True)
class SweepJob:
    """One planned run and its SLURM job; the state is None if SLURM does not know the job."""

    run_dir: Path
    job_id: str | None
    state: JobState | None

    @property
    def done(self) -> bool:
        """Whether the run has ended: SLURM says so or, if it does not know, the record is there."""
        return self.state.ended if self.state else (self.run_dir / RECORD).exists()


def check_allocation(environ: Mapping[str, str], device_kind: str) -> None:
    """Refuses a job of the launcher to which SLURM gave no GPU, or more than one.

    On a cluster that does not isolate its GPUs, a job without a GPU would see those of others.

    Raises:
        RequestError: The job has not exactly one GPU.
    """
    if not is_launched(environ) or device_kind == "cpu":
        return
    gpus = _allocated_gpus(environ)
    if len(gpus) != 1:
        given = f"{len(gpus)} GPUs ({', '.join(gpus)})" if gpus else "no GPU"
        raise RequestError(
            f"SLURM gave this job {given}, and a run needs one: ask with "
            "hydra.launcher.gpus_per_node=1, or hydra.launcher.gres=gpu:1 where the cluster counts "
            "so; device.kind=cpu trains without"
        )


def is_launched(environ: Mapping[str, str]) -> bool:
    """Whether this process is a job that hydra/launcher=slurm submitted."""
    return environ.get("SUBMITIT_EXECUTOR") == "slurm" and "SLURM_JOB_ID" in environ


def is_requeued(environ: Mapping[str, str]) -> bool:
    """Whether this job of the launcher was started before, and put back into the queue."""
    return is_launched(environ) and int(environ.get("SLURM_RESTART_COUNT", 0)) > 0


def own_job_id(environ: Mapping[str, str]) -> str | None:
    """Returns the id of this process' job, with the element of an array; None outside SLURM."""
    if "SLURM_ARRAY_TASK_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def why_stopped(environ: Mapping[str, str], number: int) -> tuple[Status, str] | None:
    """Asks SLURM why it sent this job a signal.

    Returns:
        The status and the cause for the run's record. None outside SLURM, and if SLURM does not
        know: then somebody else sent the signal.
    """
    job_id = own_job_id(environ)
    if job_id is None:
        return None
    # The accounting knows at once; the controller only says that the job is "completing".
    state = _sacct(job_id, HURRY_S)[0].get(job_id)
    if state is not None and state.ended:
        return ending(state)
    if number == signal.SIGUSR2 and is_launched(environ):
        return Status.timeout, "the job's time limit is near (hydra.launcher.timeout_min)"
    return None


def ending(state: JobState) -> tuple[Status, str]:
    """Translates the end of a job into the status and cause of a run that left no record."""
    status, cause = _ENDINGS.get(state.state, (Status.failed, "the job ended and left no record"))
    who = f" {state.reason}" if state.state == "CANCELLED" and state.reason else ""
    where = f" on {state.node}" if state.node else ", before it started"
    return status, f"SLURM: {state.state}{who}{where}: {cause}"


_ENDINGS = {
    "OUT_OF_MEMORY": (Status.oom, "more memory of the host than hydra.launcher.mem_gb"),
    "TIMEOUT": (Status.timeout, "longer than hydra.launcher.timeout_min"),
    "DEADLINE": (Status.timeout, "the job's deadline has passed"),
    "CANCELLED": (Status.interrupted, "the job was cancelled"),
    "PREEMPTED": (Status.interrupted, "the job had to give way to another"),
    "REVOKED": (Status.interrupted, "the job was moved to another cluster"),
    "NODE_FAIL": (Status.killed, "the node failed"),
    "BOOT_FAIL": (Status.killed, "the node did not start"),
    "LAUNCH_FAILED": (Status.killed, "the job could not be started"),
    "RECONFIG_FAIL": (Status.killed, "the node could not be set up"),
}


def _allocated_gpus(environ: Mapping[str, str]) -> list[str]:
    # Some sites keep SLURM from setting the first; it then still sets one of the others.
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if environ.get(name, "") not in ("", "NoDevFiles"):
            return environ[name].split(",")
    return []


def write_job_ids(sweep_dir: Path, job_ids: Mapping[int, str]) -> None:
    """Adds the SLURM job of each run's number to the sweep's file."""
    path = sweep_dir / SLURM_JOBS
    known = read_json(path) or {}
    write_json(path, known | {str(number): job_id for number, job_id in job_ids.items()})


def sweep_jobs(sweep_dir: Path, *, without_record: bool = False) -> list[SweepJob]:
    """Asks SLURM about every planned run of a sweep, or about those that left no record yet."""
    submitted = read_json(sweep_dir / SLURM_JOBS) or {}
    runs: list[tuple[Path, str | None]] = []
    for job in (read_json(sweep_dir / SWEEP) or {"jobs": []})["jobs"]:
        run_dir = sweep_dir / job["run_dir"]
        if without_record and (run_dir / RECORD).exists():
            continue
        # Other launchers write no list, but a run that has started knows its job.
        running = read_json(run_dir / RUNNING) or {}
        runs.append((run_dir, submitted.get(str(job["number"])) or running.get("slurm_job_id")))
    states = job_states(job_id for _, job_id in runs if job_id)
    jobs = [
        SweepJob(run_dir, job_id, states.get(job_id) if job_id else None)
        for run_dir, job_id in runs
    ]
    # A run that wrote a file has started: the accounting is late, and will say how it ended.
    return [
        replace(job, state=None)
        if job.state and job.state.inferred and (job.run_dir / RUNNING).exists()
        else job
        for job in jobs
    ]


def masters(job_ids: Iterable[str]) -> str:
    """Joins the ids of jobs, without the elements of arrays, as scancel and sacct take them."""
    return ",".join(sorted({job_id.split("_")[0] for job_id in job_ids}))


def _squeue(asked: str) -> dict[str, JobState] | None:
    """Asks the controller; None if it does not answer, which is not the same as knowing nothing."""
    done = _run("squeue", "-h", "-r", "-t", "all", "-j", asked, "-o", "%i|%T|%r|%N|%M")
    if done is None or (done.returncode and "Invalid job id" not in done.stderr):
        return None
    found = {}
    for line in done.stdout.splitlines():
        job_id, state, reason, node, elapsed = line.split("|")
        found[job_id] = _state(state, reason, node, _seconds(elapsed))
    return found


def _sacct(
    asked: str, timeout_s: float = TIMEOUT_S
) -> tuple[dict[str, JobState], dict[str, JobState]]:
    """Asks the accounting.

    Returns:
        The states of jobs that have a row of their own, and those that their array's row tells.
        The second is stale for every element that has started: SLURM does not shorten `17_[0-4]`
        as elements leave it, and marks all of it CANCELLED when the last waiting one is.
    """
    rows: dict[str, JobState] = {}
    arrays: dict[str, JobState] = {}
    words = ("sacct", "-n", "-P", "-j", asked, "-o", "JobID,State,Reason,NodeList,ElapsedRaw")
    for line in _lines(*words, timeout_s=timeout_s):
        job_id, state, reason, node, elapsed = line.split("|")
        step = re.fullmatch(r"([\d_]+)\.\w+", job_id)  # 17_3.batch
        if step is None:
            found = arrays if "[" in job_id else rows
            for each in _expand(job_id):
                found[each] = _state(state, reason, node, float(elapsed or 0))
        elif state == "OUT_OF_MEMORY" and rows[step[1]].state == "FAILED":
            # The job only saw its step fail; the step says why.
            rows[step[1]] = _state(state, reason, node, rows[step[1]].elapsed_s)
    return rows, arrays


def _state(state: str, reason: str, node: str, elapsed_s: float | None) -> JobState:
    state, _, by = state.partition(" ")  # "CANCELLED by 1000"
    started = node not in ("", "None assigned")
    # Both keep the reason of an earlier wait.
    if started or state not in LIVE or reason == "None":
        reason = ""
    return JobState(
        state=state,
        reason=by or reason or None,
        node=node if started else None,
        elapsed_s=elapsed_s if started else None,
    )


def _expand(job_id: str) -> Iterator[str]:
    """Splits `3_[1,4-6%2]`, the waiting part of an array, into its elements."""
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


def _lines(*words: str, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Returns the lines that a command of SLURM prints; none if it fails or is not installed."""
    done = _run(*words, timeout_s=timeout_s)
    return done.stdout.splitlines() if done is not None and done.returncode == 0 else []


def _run(*words: str, timeout_s: float = TIMEOUT_S) -> "subprocess.CompletedProcess[str] | None":
    """Runs a command of SLURM; None if it is not installed or does not end in time."""
    try:
        return subprocess.run(
            words,
            env=os.environ | {"SLURM_BITSTR_LEN": "0"},  # never shorten [1,3,5,...]
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
