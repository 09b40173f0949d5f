"""What each run of a sweep is doing now, read off its files and SLURM.

It reads the files of `run_files` and takes no lock, so it works from another process and on another
machine of a shared file system, and disturbs nothing. A run that died without a word is known by
its process (on this host), by SLURM, or by its heartbeat: the time of change of the files that are
written while it lives.
"""

import json
import math
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
from batchopt.record.read import is_here, lives
from batchopt.slurm import jobs as slurm

SILENT_AFTER_S = 120.0
"""Age of a heartbeat from which on a run shows no sign of life; it comes every 10 s, and a shared
file system may show it a minute late."""

LAUNCHER_SILENT_AFTER_S = 600.0
"""The same for a sweep between two runs, as seen from another host: it may prepare and verify."""

RECENT_ROWS = 20
"""Lines of metrics.jsonl that the present speed is taken from."""

LIVE = ("starting", "loading", "training", "evaluating", "saving")
TO_COME = ("waiting", "queued")
PHASES = {"load": "loading", "train": "training", "evaluate": "evaluating", "save": "saving"}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One planned run; None is not known yet.

    `loss` is the last training loss in nats per target token, `rouge_f1` the last evaluation's.
    `place` is the device, or the SLURM job and why it waits. `elapsed_s` counts from the run's
    start, `left_s` to its expected end. `cause` explains an ending that was not planned.
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
    place: str = ""
    elapsed_s: float | None = None
    left_s: float | None = None
    cause: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come of it, as far as can be seen."""
        return self.state not in (*LIVE, *TO_COME, "silent")


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """A sweep at one moment."""

    directory: Path
    runs: tuple[RunStatus, ...]

    @property
    def ended(self) -> bool:
        """Whether all runs have ended, or show no sign of life."""
        return all(run.ended or run.state == "silent" for run in self.runs)

    @property
    def done(self) -> float:
        """The share (0 to 1) of the work that is done, each run weighing the same."""
        shares = [
            1.0 if run.ended else (run.step or 0) / run.steps if run.steps else 0.0
            for run in self.runs
        ]
        return sum(shares) / len(shares)

    @property
    def left_s(self) -> float | None:
        """Seconds to the expected end of the sweep; None while nothing tells.

        Runs that are to come are expected to take as long as the others on average, as many at
        once as there are now; what the queue makes them wait is not in it.
        """
        live = [run for run in self.runs if run.state in LIVE]
        whole = [
            run.elapsed_s + (run.left_s or 0.0)
            for run in self.runs
            if run.elapsed_s is not None and (run.state == "completed" or run.left_s is not None)
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
    """Finds what is to be shown: `path` itself, or the newest sweep below it.

    Raises:
        RequestError: There is none.
    """
    if not path.is_dir():
        raise RequestError(
            f"SWEEP: {path} is not a directory; name a sweep (it has sweep.json) or a directory "
            "that holds some. Make one with: python -m batchopt.train -m batch=05a,05b,05c"
        )
    names = (files.SWEEP, files.RECORD, files.RUNNING)
    if any((path / name).exists() for name in names):
        return path
    plans = [*path.glob(f"*/{files.SWEEP}"), *path.glob(f"*/*/{files.SWEEP}")]
    if not plans:
        raise RequestError(
            f"SWEEP: {path} holds no sweep; a sweep has sweep.json, a run record.json. Make one "
            "with: python -m batchopt.train -m batch=05a,05b,05c"
        )
    return max(plans, key=lambda plan: (plan.stat().st_mtime_ns, plan)).parent


def read_sweep(directory: Path, jobs: Mapping[str, slurm.SweepJob]) -> SweepStatus:
    """Reads all runs of a sweep, or a single run as a sweep of one.

    Args:
        directory: A sweep's or a run's.
        jobs: What SLURM says, by the run's directory below the sweep; may be empty.

    Raises:
        RequestError: sweep.json is damaged.
    """
    path = directory / files.SWEEP
    try:
        plan = files.read_json(path) or {"jobs": [{"run_dir": ".", "preset": None}]}
        runs = [
            _read_run(directory, job["run_dir"], job["preset"] or "", jobs.get(job["run_dir"]))
            for job in plan["jobs"]
        ]
        if not runs:
            raise ValueError("it plans no run")
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is damaged ({error}); name another sweep") from error
    if not any(run.state in LIVE for run in runs) and not _launcher_lives(directory, plan):
        cause = "it never started, and nothing is left that would start it"
        runs = [
            replace(run, state="missing", cause=cause) if run.state == "waiting" else run
            for run in runs
        ]
    return SweepStatus(directory, tuple(runs))


def _read_run(directory: Path, run_dir: str, preset: str, job: slurm.SweepJob | None) -> RunStatus:
    folder = directory / run_dir
    name = folder.resolve().name if run_dir == "." else run_dir
    running = _read(folder / files.RUNNING)
    # In this order: whoever removes the first file has written the second.
    record = _read(folder / files.RECORD)
    if record is not None:
        return _ended(name, preset, record)
    run = RunStatus(name, preset, "waiting", place=_place(running or {}, job))
    said = job.state if job else None
    if job is not None and (said is None or said.state in _NOT_STARTED) and running is None:
        return replace(run, state="queued")
    if said is not None and said.state in _NOT_STARTED:  # it ran before, and was put back
        return replace(run, state="queued")
    if running is not None:
        run = _running(folder, run, running)
    elif said is not None:
        run = replace(run, state="starting")
    if said is not None and said.ended:
        status, cause = slurm.ending(said)
        run = replace(run, state=status, cause=cause, left_s=None)
    if run.state == "died" and (record := _read(folder / files.RECORD)) is not None:
        return _ended(name, preset, record)  # it ended in order while it was looked at
    return run


_NOT_STARTED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def _ended(name: str, preset: str, record: Mapping[str, Any]) -> RunStatus:
    metrics, environment = record.get("metrics", {}), record.get("environment", {})
    status = str(record.get("status", "failed"))
    job = environment.get("slurm_job_id")
    return RunStatus(
        name=name,
        preset=preset or str(record.get("preset") or ""),
        state=status,
        step=metrics.get("optimizer_steps_done"),
        steps=record.get("plan", {}).get("optimizer_steps"),
        steps_per_second=metrics.get("steps_per_second"),
        loss=metrics.get("train_loss"),
        rouge_f1=metrics.get("rouge_f1"),
        peak_memory_bytes=metrics.get("peak_memory_bytes"),
        place=f"job {job}" if job else _device(environment),
        elapsed_s=metrics.get("total_time_s"),
        cause="" if status == "completed" else str(record.get("cause", "")),
    )


def _running(folder: Path, run: RunStatus, running: Mapping[str, Any]) -> RunStatus:
    """A run that has begun and left no record so far."""
    rows = _Metrics(folder / files.METRICS)
    memory = [row for row in files.read_jsonl(folder / files.MEMORY) if "phase" in row]
    peaks = [row["memory_bytes"] for row in memory if row["phase"] == "train"]
    run = replace(
        run,
        state=PHASES.get(memory[-1]["phase"], "starting") if memory else "starting",
        step=rows.step,
        steps=running.get("optimizer_steps"),
        steps_per_second=rows.rate("train_time_s", recent=True),
        loss=rows.recent[-1]["train_loss"] if rows.recent else None,
        rouge_f1=rows.evaluation["rouge_f1"] if rows.evaluation else None,
        peak_memory_bytes=max((peak for peak in peaks if peak is not None), default=None),
        elapsed_s=_age_s(running.get("started_at")),
    )
    if is_here(running) and not lives(running):
        return replace(run, state="died", cause="its process is gone and left no record")
    heartbeat = max(_changed(folder / name) for name in (files.RUNNING, files.MEMORY))
    silent_s = time.time() - heartbeat
    if silent_s > SILENT_AFTER_S:
        cause = f"no sign of life from {running.get('hostname')} for {span(silent_s)}"
        return replace(run, state="silent", cause=cause)
    # With the evaluations, which the steps per second leave out.
    rate = rows.rate("time_s", recent=False)
    if run.steps and run.step is not None and rate:
        run = replace(run, left_s=(run.steps - run.step) / rate)
    return run


class _Metrics:
    """What metrics.jsonl tells of a run that goes on; torn lines are no rows.

    `recent` are its last training rows, oldest first, `evaluation` is the last one.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            lines = []
        # A long run has many lines: only those that count are parsed.
        train = [line for line in lines if b'"train"' in line]
        evaluations = [line for line in lines if b'"evaluation"' in line]
        self.first = next(_parsed(train), None)
        self.recent = list(islice(_parsed(reversed(train)), RECENT_ROWS))[::-1]
        self.evaluation = next(_parsed(reversed(evaluations)), None)

    @property
    def step(self) -> int | None:
        """The last step that is known of."""
        rows = [*self.recent[-1:], *([self.evaluation] if self.evaluation else [])]
        return max((row["step"] for row in rows), default=None)

    def rate(self, clock: str, *, recent: bool) -> float | None:
        """Steps per second by one of the clocks of metrics.jsonl."""
        if not self.recent:
            return None
        last, first = self.recent[-1], self.recent[0] if recent else self.first
        # The first row carries the start-up: it counts only while there is nothing else.
        if first is None or first["step"] == last["step"]:
            first = {"step": 0, clock: 0.0}
        steps, seconds = last["step"] - first["step"], last[clock] - first[clock]
        return steps / seconds if steps > 0 and seconds > 0 else None


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


def _place(running: Mapping[str, Any], job: slurm.SweepJob | None) -> str:
    job_id = (job.job_id if job else None) or running.get("slurm_job_id")
    if not job_id:
        return _device(running)
    state = job.state if job else None
    detail = (state.node or state.reason) if state else running.get("hostname")
    detail = detail or ("SLURM does not tell" if not running else None)
    return f"job {job_id}" + (f" ({detail})" if detail else "")


def _device(facts: Mapping[str, Any]) -> str:
    """A GPU by the beginning of its UUID, which tells two of a kind apart, and its name."""
    uuid, name = facts.get("device_uuid"), facts.get("device_name")
    if uuid:
        kind, _, rest = str(uuid).partition("-")
        return f"{kind}-{rest[:8]} {str(name).removeprefix('NVIDIA ')}"
    started = "per_device_train_batch_size" in facts or facts.get("device_kind")
    return "CPU" if started else ""


def _launcher_lives(directory: Path, plan: Mapping[str, Any]) -> bool:
    """Whether somebody is left to start the runs that wait.

    The command that planned the sweep is known by its process on its own host. From elsewhere, and
    while it prepares, the last change in the sweep has to do.
    """
    if is_here(plan):
        return lives(plan)
    changes = [_changed(directory / files.SWEEP)]
    changes += [_changed(directory / job["run_dir"] / files.RECORD) for job in plan["jobs"]]
    return time.time() - max(changes) < LAUNCHER_SILENT_AFTER_S


def ask_slurm(directory: Path) -> dict[str, slurm.SweepJob]:
    """SLURM's word on the runs that left no record, by their directory below the sweep."""
    try:
        jobs = slurm.sweep_jobs(directory, without_record=True)
    except (OSError, ValueError, KeyError, TypeError):  # damaged files: reading them says so
        return {}
    return {str(job.run_dir.relative_to(directory)): job for job in jobs if job.job_id}


def _read(path: Path) -> dict[str, Any] | None:
    """A document that may be absent; one that another program damaged is as good as absent."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return -math.inf


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
