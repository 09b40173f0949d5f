"""Remembers what was read of runs that are over, so that they are read once.

A run is known again by its files' sizes and times of change; where one differs, or might yet
change, the run is read again. The cache may be deleted at any time, and a damaged one is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from analysis.rows import Rows

VERSION = 1
"""Of what is kept; another version does not read it."""

WORTH_IT = 200
"""Runs under which reading is as quick as remembering."""

SETTLED_S = 2.0
"""A file that changed within so many seconds might change again without a trace in its time."""

FILES = (
    "record.json",
    "running.json",
    "metrics.jsonl",
    "memory.jsonl",
    "predictions.jsonl",
    ".hydra/config.yaml",
)
TABLES = ("training", "evaluations", "memory")


@dataclass(frozen=True, slots=True)
class Content:
    """What a run's files hold."""

    known: Mapping[str, Any]
    """Fields of the record, as JSON can hold them."""
    config: str
    """The composed config as text, without its seed."""
    training: Rows
    evaluations: Rows
    memory: Rows
    examples: tuple[str, ...]
    """Ids of the validation examples that were scored."""
    scores: array[float]
    """ROUGE F1 of each of them."""


def signature(directory: Path, planned: Mapping[str, Any]) -> str | None:
    """What changes when the run does; None where it is not over, or has just ended."""
    found: list[Any] = [planned]
    now = time.time()
    for name in FILES:
        try:
            status = os.stat(directory / name)  # noqa: PTH116 - ten thousand runs, six files each
        except OSError:
            found.append(None)
            continue
        if abs(now - status.st_mtime) < SETTLED_S:
            return None
        found.append([status.st_mtime_ns, status.st_size])
    is_over = found[1 + FILES.index("record.json")] is not None
    return json.dumps(found) if is_over else None


@dataclass
class Cache:
    """What one request remembers: a file of its own for the directories that were named."""

    path: Path
    before: dict[str, tuple[str, Content]] = field(default_factory=dict)
    now: dict[str, tuple[str, Content]] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def open(cls, folder: Path, named: Sequence[Path]) -> Cache:
        """Reads what is remembered of a request; nothing where there is no cache."""
        request = "\n".join(sorted(str(path.resolve()) for path in named))
        name = hashlib.sha256(request.encode()).hexdigest()[:16]
        path = folder / f"{name}.v{VERSION}.parquet"
        return cls(path, before=_load(path) if path.exists() else {})

    def get(self, directory: Path, key: str | None) -> Content | None:
        """What was read of a run that has not changed since."""
        known = self.before.get(str(directory))
        if known is None or key is None or known[0] != key:
            return None
        self.now[str(directory)] = known
        return known[1]

    def put(self, directory: Path, key: str | None, content: Content) -> None:
        """Remembers what was just read, where it is settled."""
        if key is not None:
            self.now[str(directory)] = key, content
            self.changed = True

    def save(self) -> None:
        """Writes what is to be remembered, if it is worth it; a disk that is full is no error."""
        if not self.changed or len(self.now) < WORTH_IT:
            return
        try:
            _save(self.path, self.now)
        except OSError:
            return


def _save(path: Path, runs: Mapping[str, tuple[str, Content]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [content for _, content in runs.values()]
    columns: dict[str, Any] = {
        "directory": pa.array(list(runs)),
        "signature": pa.array([key for key, _ in runs.values()]),
        "known": pa.array([json.dumps(dict(content.known)) for content in contents]),
        "config": pa.array([content.config for content in contents]),
        "examples": pa.array([json.dumps(content.examples) for content in contents]),
        "scores": _lists([content.scores for content in contents]),
    }
    for table in TABLES:
        for name in getattr(contents[0], table).columns:
            columns[f"{table}.{name}"] = _lists(
                [getattr(content, table).columns[name] for content in contents]
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        pq.write_table(pa.table(columns), beside, compression="zstd")
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _lists(arrays: Sequence[array[float]]) -> Any:
    """A column that holds a list of numbers for each run."""
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
    np.cumsum([len(one) for one in arrays], out=offsets[1:])
    values = np.concatenate([np.zeros(0), *(np.frombuffer(one) for one in arrays if one)])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, type=pa.float64()))


def _load(path: Path) -> dict[str, tuple[str, Content]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        numbers = {
            name: _arrays(table[name].combine_chunks())
            for name in table.column_names
            if pa.types.is_list(table[name].type)
        }
        texts = {
            name: table[name].to_pylist() for name in table.column_names if name not in numbers
        }
        shared: dict[str, tuple[str, ...]] = {}
        return {
            directory: (
                texts["signature"][place],
                Content(
                    known=json.loads(texts["known"][place]),
                    config=texts["config"][place],
                    examples=shared.setdefault(
                        texts["examples"][place], tuple(json.loads(texts["examples"][place]))
                    ),
                    scores=numbers["scores"][place],
                    **{
                        name: Rows(
                            {
                                column.partition(".")[2]: numbers[column][place]
                                for column in numbers
                                if column.startswith(f"{name}.")
                            }
                        )
                        for name in TABLES
                    },
                ),
            )
            for place, directory in enumerate(texts["directory"])
        }
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return {}


def _arrays(column: Any) -> list[array[float]]:
    """The lists of a column, one for each run."""
    values = memoryview(column.values.to_numpy()).cast("B")
    offsets = column.offsets.to_pylist()
    found = []
    for start, stop in pairwise(offsets):
        one = array("d")
        one.frombytes(values[8 * start : 8 * stop])
        found.append(one)
    return found
