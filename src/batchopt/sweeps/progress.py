"""What each run of a sweep is doing now, from its files and from SLURM.

Reads files and takes no lock: it works from another process and from another machine with the same
file system, and disturbs nothing. `record.read` decides who lives, unless SLURM knows better.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.documents import Running, SweepPlan
from batchopt.record.read import (
    RunRecord,
    find_runs,
    newest_sweep,
    read_plan,
    read_planned_run,
    why_dead,
)
from batchopt.record.statuses import Phase, Status
from batchopt.slurm import jobs as slurm

LAUNCHER_SILENT_AFTER_S = 600.0
"""On another host the command that runs the sweep counts as gone after so long without a change: it
may prepare and verify."""

RECENT_ROWS = 20
"""Lines of metrics.jsonl that give the present speed."""

STARTING, WAITING, QUEUED = "starting", "waiting", "queued"
PHASES = {
    Phase.load: "loading",
    Phase.train: "training",
    Phase.evaluate: "evaluating",
    Phase.save: "saving",
}
LIVE = (STARTING, *PHASES.values())
TO_COME = (WAITING, QUEUED)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One planned run; None is not known yet.

    `state` is a word of `LIVE` or `TO_COME`, or a `Status`. `loss` is the last training loss in
    nats per target token, `rouge_f1` the last evaluation's. `runs_on` is the device, or the SLURM
    job and why it waits. `elapsed_s` counts from the run's start, `left_s` to its expected end.
    `cause` explains an ending that was not planned.
    """

    name: str
    preset: str
    state: str
    step: int | None = None
    steps: int | None = None
    steps_per_second: float | None = None
    loss: float | None = None
    rouge_f1: float | None = None
    peak_memory_bytes: int | None = None
    runs_on: str = ""
    elapsed_s: float | None = None
    left_s: float | None = None
    cause: str = ""

    @property
    def ended(self) -> bool:
        """Whether the run has ended, or will never start."""
        return self.state not in (*LIVE, *TO_COME)


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """A sweep at one moment."""

    directory: Path
    runs: tuple[RunStatus, ...]

    @property
    def ended(self) -> bool:
        """Whether all runs have ended."""
        return all(run.ended for run in self.runs)

    @property
    def done(self) -> float:
        """The share (0 to 1) of the work that is done; each run has the same weight."""
        shares = [
            1.0 if run.ended else (run.step or 0) / run.steps if run.steps else 0.0
            for run in self.runs
        ]
        return sum(shares) / len(shares)

    @property
    def left_s(self) -> float | None:
        """Seconds to the expected end of the sweep; None if unknown.

        Expects the runs to come to take as long as the others on average, as many at once as there
        are now. The time in a queue is not included.
        """
        live = [run for run in self.runs if run.state in LIVE]
        whole = [
            run.elapsed_s + (run.left_s or 0.0)
            for run in self.runs
            if run.elapsed_s is not None
            and (run.state == Status.completed or run.left_s is not None)
        ]
        if not live or not whole:
            return None
        mean_s = fmean(whole)
        free_at = [
            max(0.0, mean_s - (run.elapsed_s or 0.0)) if run.left_s is None else run.left_s
            for run in live
        ]
        for _ in range(sum(run.state in TO_COME for run in self.runs)):
            free_at[free_at.index(min(free_at))] += mean_s
        return max(free_at)


def find_sweep(path: Path) -> Path:
    """Finds the sweep or run to show: `path` itself, or the newest sweep below it.

    Raises:
        RequestError: There is none.
    """
    if not path.is_dir():
        raise RequestError(
            f"SWEEP: {path} is not a directory; name a sweep (it has sweep.json) or a directory "
            "that holds some. Make one with: python -m batchopt.train -m batch=05a,05b,05c"
        )
    if next(find_runs(path), None) == path:
        return path
    newest = newest_sweep(path)
    if newest is None:
        raise RequestError(
            f"SWEEP: {path} holds no sweep; a sweep has sweep.json, a run record.json. Make one "
            "with: python -m batchopt.train -m batch=05a,05b,05c"
        )
    return newest


def sweep_status(directory: Path, jobs: Mapping[str, slurm.SweepJob]) -> SweepStatus:
    """Reads all runs of a sweep, or a single run as a sweep of one.

    Args:
        directory: The directory of a sweep or of a run.
        jobs: SLURM's answers, by the run's directory below the sweep; may be empty.

    Raises:
        RequestError: sweep.json is damaged, or plans no run.
    """
    plan = read_plan(directory)
    if plan is None:
        return SweepStatus(directory, (_run_status(read_planned_run(directory), None),))
    if not plan.jobs:
        raise RequestError(f"{directory / files.SWEEP} plans no run; name another sweep")
    runs = [
        _run_status(read_planned_run(directory / job.run_dir, job), jobs.get(job.run_dir))
        for job in plan.jobs
    ]
    if not any(run.state in LIVE for run in runs) and _launcher_is_gone(directory, plan):
        cause = "it never started, and nothing is left that would start it"
        runs = [
            replace(run, state=Status.missing, cause=cause) if run.state == WAITING else run
            for run in runs
        ]
    return SweepStatus(directory, tuple(runs))


_NOT_STARTED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def _run_status(run: RunRecord, job: slurm.SweepJob | None) -> RunStatus:
    if run.final is not None:
        return _ended(run)
    said, running = job.state if job else None, run.running
    status = RunStatus(run.name, run.preset or "", WAITING, runs_on=_runs_on(running, job))
    if said.state in _NOT_STARTED if said else job is not None and running is None:
        return replace(status, state=QUEUED)  # perhaps again, after it ran before
    if running is not None:
        status = _running(run.run_dir, status, running)
    elif said is not None:
        status = replace(status, state=STARTING)
    state, cause = run.status, run.cause
    if said is not None and said.ended:
        state, cause = slurm.ending(said)
    elif said is not None or state in (Status.running, Status.missing):
        return status  # SLURM knows better than the age of a file whether a job runs
    return replace(status, state=state, cause=cause, left_s=None)


def _ended(run: RunRecord) -> RunStatus:
    assert run.final is not None
    environment, metrics = run.final.environment, run.metrics
    job = environment.get("slurm_job_id")
    return RunStatus(
        name=run.name,
        preset=run.preset or "",
        state=run.status,
        step=metrics.get("optimizer_steps_done"),
        steps=run.plan.get("optimizer_steps"),
        steps_per_second=metrics.get("steps_per_second"),
        loss=metrics.get("train_loss"),
        rouge_f1=metrics.get("rouge_f1"),
        peak_memory_bytes=metrics.get("peak_memory_bytes"),
        runs_on=f"job {job}"
        if job
        else _device(
            environment.get("device_uuid"),
            environment.get("device_name"),
            on_cpu=environment.get("device_kind") is not None,
        ),
        elapsed_s=metrics.get("total_time_s"),
        cause="" if run.status == Status.completed else run.cause,
    )


def _running(folder: Path, status: RunStatus, running: Running) -> RunStatus:
    """The status of a run that has begun and left no record so far."""
    rows = _Metrics(folder / files.METRICS_JSONL)
    memory = [row for row in files.read_jsonl(folder / files.MEMORY) if "phase" in row]
    peaks = [row["memory_bytes"] for row in memory if row["phase"] == Phase.train]
    # With the evaluations, which the steps per second leave out.
    rate = rows.rate("time_s", recent=False)
    steps, step = running.optimizer_steps, rows.step
    return replace(
        status,
        state=PHASES.get(memory[-1]["phase"], STARTING) if memory else STARTING,
        step=step,
        steps=steps,
        steps_per_second=rows.rate("train_time_s", recent=True),
        loss=rows.recent[-1]["train_loss"] if rows.recent else None,
        rouge_f1=rows.evaluation["rouge_f1"] if rows.evaluation else None,
        peak_memory_bytes=max((peak for peak in peaks if peak is not None), default=None),
        elapsed_s=_age_s(running.started_at),
        left_s=(steps - step) / rate if steps and step is not None and rate else None,
    )


class _Metrics:
    """The rows of metrics.jsonl that count while a run goes on.

    `recent` are the last training rows, oldest first; `evaluation` is the last evaluation.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            lines = []
        # A long run has many lines: parse only those that count.
        train = [line for line in lines if b'"train"' in line]
        evaluations = [line for line in lines if b'"evaluation"' in line]
        self.first = next(_parsed(train), None)
        self.recent = list(islice(_parsed(reversed(train)), RECENT_ROWS))[::-1]
        self.evaluation = next(_parsed(reversed(evaluations)), None)

    @property
    def step(self) -> int | None:
        """The last known step."""
        rows = [*self.recent[-1:], *([self.evaluation] if self.evaluation else [])]
        return max((row["step"] for row in rows), default=None)

    def rate(self, clock: str, *, recent: bool) -> float | None:
        """Steps per second by a clock of metrics.jsonl; None if unknown."""
        if not self.recent:
            return None
        last, first = self.recent[-1], self.recent[0] if recent else self.first
        # The first row includes the start-up: use it only while there is no other.
        if first is None or first["step"] == last["step"]:
            first = {"step": 0, clock: 0.0}
        steps, seconds = last["step"] - first["step"], last[clock] - first[clock]
        return steps / seconds if steps > 0 and seconds > 0 else None


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of the lines; a torn line is skipped."""
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


def _runs_on(running: Running | None, job: slurm.SweepJob | None) -> str:
    """The device of a run or, on SLURM, its job with the node or the reason why it waits."""
    job_id = (job.job_id if job else None) or (running.slurm_job_id if running else None)
    if job_id:
        state = job.state if job else None
        detail = (state.node or state.reason) if state else running.hostname if running else None
        detail = detail or ("SLURM does not tell" if running is None else None)
        return f"job {job_id}" + (f" ({detail})" if detail else "")
    if running is None:
        return ""
    started = running.per_device_train_batch_size is not None
    return _device(running.device_uuid, running.device_name, on_cpu=started)


def _device(uuid: str | None, name: str | None, *, on_cpu: bool) -> str:
    """The name of a GPU after the beginning of its UUID, which tells two of a kind apart."""
    if uuid:
        kind, _, rest = str(uuid).partition("-")
        return f"{kind}-{rest[:8]} {str(name).removeprefix('NVIDIA ')}"
    return "CPU" if on_cpu else ""


def _launcher_is_gone(directory: Path, plan: SweepPlan) -> bool:
    """Whether the command that runs the sweep has ended, and no waiting run will start."""
    signs = [directory / files.SWEEP]
    signs += [directory / job.run_dir / files.RECORD for job in plan.jobs]
    return why_dead(plan, signs, LAUNCHER_SILENT_AFTER_S) is not None


def ask_slurm(directory: Path) -> dict[str, slurm.SweepJob]:
    """SLURM's answers about the runs without a record, by their directory below the sweep."""
    try:
        jobs = slurm.sweep_jobs(directory, without_record=True)
    except (OSError, ValueError, KeyError, TypeError):  # damaged files: reading them says so
        return {}
    return {str(job.run_dir.relative_to(directory)): job for job in jobs if job.job_id}


def _age_s(timestamp: object) -> float | None:
    try:
        return time.time() - datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None


def time_left(seconds: float) -> str:
    """`about 4 min left, until 14:32`; with the day where that is another one."""
    now = datetime.now()
    end = now + timedelta(seconds=seconds)
    day = "" if end.date() == now.date() else f"{end:%a} "
    return f"about {span(seconds)} left, until {day}{end:%H:%M}"


def span(seconds: float) -> str:
    """`42 s`, `7 min` or `3h05`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}"
