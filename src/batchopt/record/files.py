"""The names of the files of a run and of a sweep, and how they are written and read.

This module alone knows the names. Everything is written so that a reader, or a run that is
killed, never meets half a file: whole files are moved into place, line files are appended to
in single writes, and a torn last line is skipped by the reader.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RECORD = "record.json"
RUNNING = "running.json"
METRICS = "metrics.jsonl"
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
"""More than a record with a long traceback takes."""

_TEMPORARY = re.compile(r"\..+\.(json|jsonl)\.[a-z0-9_]{8}")
"""What `write_text` names its files until they are whole."""


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
    """Appends one JSON line, whole or not at all; mends a line that a kill tore.

    Raises:
        OSError: The disk is full, and the like; the file is as it was.
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
    """Reads a JSON document; None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yields the objects of a file of JSON lines; none for a missing file or a torn line."""
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
    """Takes the room of a record on the disk, so that a full disk cannot keep it out."""
    (run_dir / RESERVE).write_bytes(bytes(RESERVED_BYTES))


def release(run_dir: Path) -> None:
    """Gives the room back; the record is written next."""
    (run_dir / RESERVE).unlink(missing_ok=True)


def sweep_up(run_dir: Path) -> None:
    """Removes what a kill left: temporary files, and signs of a run that has a record."""
    for path in run_dir.glob(".*"):
        if path.is_file() and _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if (run_dir / RECORD).exists():
        release(run_dir)
        (run_dir / RUNNING).unlink(missing_ok=True)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
