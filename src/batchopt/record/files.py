"""The files of a run and of a sweep: their names, and how they are written and read.

A reader never meets half a file, even if the writer is killed: whole files are moved into place,
lines are appended in single writes, and the reader skips a torn last line.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RECORD = "record.json"
RUNNING = "running.json"
METRICS_JSONL = "metrics.jsonl"
MEMORY = "memory.jsonl"
PREDICTIONS = "predictions.jsonl"
TRAIN_LOG = "train.log"
STACKS = "stacks.txt"
CHECKPOINTS = "checkpoints"
SWEEP = "sweep.json"
VERIFY = "verify.json"
SLURM_JOBS = "slurm_jobs.json"
RESERVE = ".reserved"

RESERVED_BYTES = 256 * 1024
"""More than a record with a long traceback needs."""

_TEMPORARY = re.compile(r"\..+\.(json|jsonl)\.[a-z0-9_]{8}")
"""Names of the files of `write_text` that are not whole yet."""


def now() -> str:
    """The time for a document: UTC, in whole seconds, such as 2026-11-24T10:30:00Z."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def is_there(typed: str | Path) -> bool:
    """Whether a word that was typed is a path that is there; a text too long for a path is not."""
    return os.path.exists(typed)  # noqa: PTH110 - Path.exists raises for such a text


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: a reader sees the old content or the new, never a part."""
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
    """Writes a JSON document atomically. NaN and infinity are errors: JSON has neither."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Writes a whole file of JSON lines atomically."""
    write_text(path, "".join(_line(row) for row in rows))


def append_jsonl(path: Path, row: Any) -> None:
    """Appends one JSON line, whole or not at all. Ends a line that a kill tore first.

    Raises:
        OSError: The disk is full, or similar; the file is unchanged.
    """
    line = _line(row).encode()
    with path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        if end and not _ends_with_newline(path):
            line = b"\n" + line
        try:
            while line:
                line = line[stream.write(line) :]
        except OSError:
            stream.truncate(end)
            raise


def read_json(path: Path) -> Any:
    """Reads a JSON document; None if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yields the objects of a file of JSON lines. Skips torn lines; a missing file has none."""
    try:
        stream = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def reserve(run_dir: Path) -> None:
    """Takes disk space for the record, so that a full disk cannot prevent it."""
    (run_dir / RESERVE).write_bytes(bytes(RESERVED_BYTES))


def release(run_dir: Path) -> None:
    """Gives the reserved space back, just before the record is written."""
    (run_dir / RESERVE).unlink(missing_ok=True)


def sweep_up(run_dir: Path) -> None:
    """Removes what a kill left: temporary files and, beside a record, running.json."""
    for path in run_dir.glob(".*"):
        if path.is_file() and _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if (run_dir / RECORD).exists():
        release(run_dir)
        (run_dir / RUNNING).unlink(missing_ok=True)


def changed_at(path: Path) -> float:
    """Time of the last change of a file, as `time.time()` has it; minus infinity without one."""
    try:
        return path.stat().st_mtime
    except OSError:
        return -math.inf


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
