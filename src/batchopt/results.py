"""Reads the records of runs and sweeps, for whoever wants the numbers in a program of their own.

The files are described in docs/reference/record.md. The report of batchopt has a reader of its own
(`analysis.read`), since the analysis depends on the files alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.records import read_record
from batchopt.run_files import METRICS, PREDICTIONS, RECORD, SWEEP, read_json, read_jsonl


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One planned run.

    `status` is "running" while there is a run without a record, and "missing" where there is none.
    `metrics` have the names and units of docs/reference/record.md; one that was not measured is
    None. `record` is the whole of record.json, empty without one.
    """

    run_dir: Path
    status: str
    cause: str
    preset: str | None
    seed: int | None
    plan: Mapping[str, Any]
    metrics: Mapping[str, Any]
    record: Mapping[str, Any]

    def training(self) -> list[dict[str, Any]]:
        """The logged steps, oldest first: step, train_loss, learning_rate, grad_norm, times."""
        return [row for row in read_jsonl(self.run_dir / METRICS) if row["kind"] == "train"]

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations, oldest first: step, eval_loss, ROUGE, times."""
        return [row for row in read_jsonl(self.run_dir / METRICS) if row["kind"] == "evaluation"]

    def predictions(self) -> list[dict[str, Any]]:
        """The last evaluation's examples: id, references, prediction and the ROUGE of each."""
        return list(read_jsonl(self.run_dir / PREDICTIONS))


def read_run(run_dir: Path | str) -> RunRecord:
    """Reads the record of one run, whatever has become of it.

    Raises:
        RequestError: There is no such directory, or its record is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a directory; name a run, which has {RECORD}")
    return _read(folder, {})


def read_sweep(directory: Path | str) -> list[RunRecord]:
    """Reads the record of every planned run of a sweep, in their order.

    Raises:
        RequestError: The directory is no sweep's, or a record is damaged.
    """
    folder = Path(directory)
    plan = read_json(folder / SWEEP)
    if plan is None:
        raise RequestError(f"{folder} is no sweep: it has no {SWEEP}; read_run reads a single run")
    return [_read(folder / job["run_dir"], job) for job in plan["jobs"]]


def _read(run_dir: Path, planned: Mapping[str, Any]) -> RunRecord:
    record = read_record(run_dir)
    if record is None:
        begun = (run_dir / METRICS).exists()
        return RunRecord(
            run_dir=run_dir,
            status="running" if begun else "missing",
            cause="it has left no record" if begun else "it has not begun",
            preset=planned.get("preset"),
            seed=planned.get("seed"),
            plan={},
            metrics={},
            record={},
        )
    return RunRecord(
        run_dir=run_dir,
        status=record["status"],
        cause=record["cause"],
        preset=record["preset"],
        seed=record["seed"],
        plan=record["plan"],
        metrics=record["metrics"],
        record=record,
    )
