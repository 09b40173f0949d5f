"""The names of the files of a run and of a sweep, and how they are written and read.

This module alone knows the names. Everything is written so that a reader, or a run that is
killed, never meets half a file: whole files are moved into place, line files are appended to
in single writes, and a torn last line is skipped by the reader.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RECORD = "record.json"
RUNNING = "running.json"
OUTCOME = "outcome.json"
METRICS = "metrics.jsonl"
MEMORY = "memory.jsonl"
PREDICTIONS = "predictions.jsonl"
TRAIN_LOG = "train.log"
CHECKPOINTS = "checkpoints"
SWEEP = "sweep.json"
VERIFY = "verify.json"
SLURM_JOBS = "slurm_jobs.json"


def write_text(path: Path, text: str) -> None:
    """Writes a whole file atomically: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private; a run's files have the permissions that the umask gives.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON document atomically; NaN and infinity are errors, since JSON has neither."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Writes a whole file of JSON lines atomically."""
    write_text(path, "".join(_line(row) for row in rows))


def append_jsonl(path: Path, row: Any) -> None:
    """Appends one JSON line in a single write."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(_line(row))


def read_json(path: Path) -> Any:
    """Reads a JSON document; None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yields the rows of a file of JSON lines; none for a missing file or a torn last line."""
    try:
        stream = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            if line.endswith("\n"):
                yield json.loads(line)


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
