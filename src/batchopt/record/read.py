"""Reads what runs and sweeps left on disk, whole or damaged, of this batchopt or another.

`read_planned_run` says what has become of a run. `batchopt.status`, the analysis, the summary of a
sweep and the public readers all use it.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, TypeVar

import psutil

from batchopt.errors import RequestError
from batchopt.record import files
from batchopt.record.documents import (
    BATCH,
    PlannedRun,
    Record,
    Running,
    SweepPlan,
    parse_plan,
    parse_record,
    parse_running,
)
from batchopt.record.statuses import Status

SILENT_AFTER_S = 120.0
"""A run on another host counts as killed when its files are older than this. The supervisor touches
one every 10 s; a shared file system may show that a minute late."""

_REMEDY = "remove it to have the run done anew"
_Document = TypeVar("_Document")

KILLED = "the process that supervised the run ended without a record"


def read_record(run_dir: Path) -> Record | None:
    """Reads record.json; None if there is none.

    Raises:
        RequestError: The file is damaged.
    """
    return _read(run_dir / files.RECORD, parse_record)


def read_running(run_dir: Path) -> Running | None:
    """Reads running.json; None if there is none.

    Raises:
        RequestError: The file is damaged.
    """
    return _read(run_dir / files.RUNNING, parse_running)


def read_plan(directory: Path) -> SweepPlan | None:
    """Reads sweep.json; None if there is none.

    Raises:
        RequestError: The file is damaged, or a run of it lies outside the sweep.
    """
    path = directory / files.SWEEP
    plan = _read(path, parse_plan, "name another directory")
    if plan is None:
        return None
    for job in plan.jobs:
        run_dir = PurePath(job.run_dir)
        if run_dir.is_absolute() or ".." in run_dir.parts:
            raise RequestError(f"{path} plans {run_dir}; a run must stay inside its sweep")
    return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One planned run, whatever has become of it.

    Without a record, `status` is `running`, `killed` (its process is gone) or `missing` (it never
    started). A run with a damaged file is `failed`, and `cause` names the file.
    """

    run_dir: Path
    status: str
    cause: str
    preset: str | None = None
    seed: int | None = None
    plan: Mapping[str, Any]
    """The batch, the packing, the number of steps; of a run without a record the planned batch."""
    metrics: Mapping[str, Any]
    """Names and units of docs/reference/record.md; None is not measured. Empty without a record."""
    final: Record | None = None
    """record.json, typed; None without one."""
    running: Running | None = None
    """What a run without a record says of itself; None if it never started."""

    @property
    def record(self) -> dict[str, Any]:
        """The keys of record.json; empty without one."""
        return {} if self.final is None else asdict(self.final)

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        return self.run_dir.name or self.run_dir.resolve().name

    def training(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first: step, train_loss, learning_rate, grad_norm, times."""
        return self._rows("train")

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations, oldest first: step, eval_loss, ROUGE, times."""
        return self._rows("evaluation")

    def predictions(self) -> list[dict[str, Any]]:
        """The last evaluation's examples: id, references, prediction and the ROUGE of each."""
        return list(files.read_jsonl(self.run_dir / files.PREDICTIONS))

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        rows = files.read_jsonl(self.run_dir / files.METRICS_JSONL)
        return [row for row in rows if row.get("kind") == kind]


def read_run(run_dir: Path | str) -> RunRecord:
    """Reads one run, whatever has become of it.

    Raises:
        RequestError: There is no such directory.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a directory; name a run, which has {files.RECORD}")
    return read_planned_run(folder)


def read_planned_run(folder: Path, planned: PlannedRun | None = None) -> RunRecord:
    """Reads one run; raises for nothing that may be on disk.

    Args:
        folder: The run's directory; it does not exist if the run never started.
        planned: The run in its sweep's plan, for what is unknown without a record.
    """
    found = RunRecord(
        run_dir=folder,
        status=Status.missing,
        cause="it left no record" if folder.is_dir() else "never started",
        preset=planned.preset if planned else None,
        seed=planned.seed if planned else None,
        plan={key: getattr(planned, key, None) for key in BATCH},
        metrics={},
    )
    try:
        if (ended := _with_record(found)) is not None:
            return ended
        running = read_running(folder)
        if running is not None:
            signs = [folder / files.RUNNING, folder / files.MEMORY]
            dead = why_dead(running, signs, SILENT_AFTER_S)
            if dead is None:
                return replace(found, running=running, status=Status.running, cause=_since(running))
            found = replace(found, running=running, status=Status.killed, cause=dead)
        return _with_record(found) or found  # it may have ended in order since the first look
    except RequestError as error:
        return replace(found, status=Status.failed, cause=str(error))


def read_sweep(directory: Path | str) -> list[RunRecord]:
    """Reads every planned run of a sweep, in their order.

    Raises:
        RequestError: The directory holds no sweep, or sweep.json is damaged.
    """
    folder = Path(directory)
    plan = read_plan(folder)
    if plan is None:
        raise RequestError(
            f"{folder} is no sweep: it has no {files.SWEEP}; read_run reads a single run"
        )
    return [read_planned_run(folder / job.run_dir, job) for job in plan.jobs]


def find_runs(directory: Path) -> Iterator[Path]:
    """Yields the sweeps and single runs at or below a directory, in order of their names."""
    names = (files.SWEEP, files.RECORD, files.RUNNING)
    if any((directory / name).exists() for name in names):
        yield directory
    elif directory.is_dir():
        for child in sorted(directory.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from find_runs(child)


def newest_sweep(root: Path) -> Path | None:
    """The sweep at or below a directory that was planned last; None if there is none."""
    plans = [path / files.SWEEP for path in find_runs(root) if (path / files.SWEEP).exists()]
    newest = max(plans, key=lambda path: (path.stat().st_mtime_ns, path), default=None)
    return None if newest is None else newest.parent


def why_dead(owner: Running | SweepPlan, signs: Iterable[Path], patience_s: float) -> str | None:
    """Says why the process that wrote a document cannot be alive; None if it may be.

    On this host the process decides. From another host only the age of its files can tell.

    Args:
        owner: The document, which names the process.
        signs: Files that the process changes while it lives.
        patience_s: Age of the newest of them from which the process counts as gone.
    """
    if owner.hostname == os.uname().nodename and owner.pid is not None:
        return None if _is_same_process(owner) else KILLED
    silent_s = time.time() - max(map(files.changed_at, signs))
    if silent_s <= patience_s:
        return None
    return f"no sign of life from {owner.hostname} for {silent_s / 60:.0f} min"


def _is_same_process(owner: Running | SweepPlan) -> bool:
    """Whether the process is there, and did not only inherit the number."""
    try:
        process = psutil.Process(owner.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        began = process.create_time()
    except (psutil.NoSuchProcess, ValueError):  # ValueError: no process can have this number
        return False
    since = owner.attempt_started_at if isinstance(owner, Running) else owner.launched_at
    try:
        written = datetime.fromisoformat(str(since))
    except ValueError:
        return True
    # A process younger than the document only inherited its number. The minute allows for whole
    # seconds in the document, and for a start that the kernel counts in ticks since it booted.
    return began < written.timestamp() + 60.0


def _since(running: Running) -> str:
    return f"since {running.started_at} on {running.hostname}, process {running.pid}"


def _with_record(run: RunRecord) -> RunRecord | None:
    record = read_record(run.run_dir)
    if record is None:
        return None
    return replace(
        run,
        status=record.status,
        cause=record.cause or "",
        preset=run.preset if record.preset is None else record.preset,
        seed=run.seed if record.seed is None else record.seed,
        plan={**run.plan, **record.plan},
        metrics=record.metrics,
        final=record,
        running=None,
    )


def _read(
    path: Path, parse: Callable[[Mapping[str, Any]], _Document], remedy: str = _REMEDY
) -> _Document | None:
    """Reads a document; None if there is no file.

    Raises:
        RequestError: The file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"{path} cannot be read as JSON ({reason}); {remedy}") from error
    if not isinstance(document, dict):
        raise RequestError(f"{path} does not hold a JSON object; {remedy}")
    try:
        return parse(document)
    except ValueError as error:
        raise RequestError(f"{path}: {error}; {remedy}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
