"""Examples from CSV, TSV, JSON, JSONL and Parquet files, as they are found.

Every reader but that of .json streams: rows are checked as they pass, and no file is held whole.
"""

import glob
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchopt.data import Corpus, separated
from batchopt.data.findings import Findings
from batchopt.data.json_files import read_json, read_jsonl
from batchopt.data.rows import (
    Columns,
    RowError,
    Rows,
    RowSource,
    build_corpus,
    check_columns,
    train_columns,
    validation_columns,
)
from batchopt.data.text_files import encoding_of
from batchopt.errors import RequestError, first_line
from batchopt.request.config import FilesDataConfig

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet")


def read(config: FilesDataConfig) -> Corpus:
    """Reads the training files and the validation files, or holds out a share of the first.

    Raises:
        RequestError: A file, a row or a value of the config that cannot be used.
    """
    found = Findings()
    train = _sources(config, train_columns(config), "train_file", found)
    validation = None
    if config.validation_file is not None:
        validation = _sources(config, validation_columns(config), "validation_file", found)
    corpus = build_corpus(config, train, validation)
    return replace(corpus, read_as=tuple(found.clauses()))


def _sources(
    config: FilesDataConfig, columns: Columns, field: str, found: Findings
) -> list[RowSource]:
    key = f"data.{field}"
    paths = [path for name in config.files(field) for path in _paths(key, name)]
    for path in paths:
        if paths.count(path) > 1:
            raise RequestError(f"{key} names {path} {paths.count(path)} times; name it once")
    return [_source(config, columns, key, path, found) for path in paths]


def _paths(key: str, name: str) -> list[Path]:
    """The files that a path or a pattern names; what is there under the very name goes first."""
    path = Path(name)
    with suppress(RuntimeError):  # no such user: the file is then missing under the name as it is
        path = path.expanduser()
    if not glob.has_magic(name) or path.exists():
        return [path]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 -- a pattern may be absolute
    found = [Path(match) for match in sorted(matches)]
    if not found:
        raise RequestError(
            f"{key}: {name}: no file matches; name files that exist (looked in {Path.cwd()})"
        )
    return found


def _source(
    config: FilesDataConfig, columns: Columns, key: str, path: Path, found: Findings
) -> RowSource:
    where = f"{key}: {path}"
    suffix = path.suffix.lower()
    try:
        path.stat()
        if path.is_dir():
            raise RequestError(
                f"{where}: this is a folder; name one file in it, or several, as in {path}/*.csv"
            )
        if suffix not in SUFFIXES:
            raise RequestError(
                f"{where}: the suffix {path.suffix!r} is not known; "
                f"convert the file to one of {', '.join(SUFFIXES)}"
            )
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except FileNotFoundError as error:
        raise RequestError(
            f"{where}: there is no such file; name one that exists (looked for {path.absolute()})"
        ) from error
    except OSError as error:
        raise RequestError(
            f"{where}: cannot be read ({error.strerror}); check its path and permissions"
        ) from error
    if empty:
        raise RequestError(f"{where}: the file is empty; name one with at least one row")
    return RowSource(where, columns, _rows(config, columns, where, path, found))


def _rows(
    config: FilesDataConfig, columns: Columns, where: str, path: Path, found: Findings
) -> Rows:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _read_parquet(columns, where, path)
        return
    encoding = encoding_of(config, where, path)
    try:
        if suffix in separated.USUAL:
            layout = separated.find_layout(config.separator, columns, path, encoding)
            found.add(path, f"read as {encoding.called}, {layout.called}")
            yield from separated.read_rows(columns, where, path, encoding, layout)
            return
        found.add(path, f"read as {encoding.called}")
        reader = read_json if suffix == ".json" else read_jsonl
        yield from reader(columns, where, path, encoding, found)
    except UnicodeError as error:  # UTF-16 cannot go on after what it cannot read
        remedy = (
            "name the file's encoding with data.encoding" if encoding.named else "write it again"
        )
        raise RequestError(
            f"{where}: this is not {encoding.called} throughout ({error}); {remedy}"
        ) from error


def _read_parquet(columns: Columns, where: str, path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_columns(columns, where, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=list(columns.wanted())):
                for row in range(batch.num_rows):
                    number += 1
                    yield f"row {number}", _values(batch, row)
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(
            f"{where}: this is not a sound Parquet file ({first_line(error)}); write it again"
        ) from error


def _values(batch: Any, row: int) -> Mapping[str, object] | RowError:
    # Value by value: one text that is not UTF-8 makes the whole of to_pylist fail.
    try:
        return {name: batch.column(name)[row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return RowError("the row is not UTF-8", "write texts as UTF-8")
