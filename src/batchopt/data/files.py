"""Examples from CSV, TSV, JSONL and Parquet files.

Every reader streams: a row is checked when it is read, and no file is held in memory.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from batchopt.data import Corpus
from batchopt.data.rows import (
    RowError,
    Rows,
    RowSource,
    build_corpus,
    check_columns,
    is_unicode,
    kind,
    wanted_columns,
)
from batchopt.errors import RequestError
from batchopt.request.config import FilesDataConfig

_TO_UTF8 = "save the file as UTF-8, for example with iconv -f CP949 -t UTF-8"


def read(config: FilesDataConfig) -> Corpus:
    """Reads the training file and the validation file, or holds out a share of the first.

    Raises:
        RequestError: A file, a row or a value of the config cannot be used.
    """
    train = _source(config, "data.train_file", config.train_file)
    validation = None
    if config.validation_file is not None:
        validation = _source(config, "data.validation_file", config.validation_file)
    return build_corpus(config, train, validation)


def _source(config: FilesDataConfig, key: str, name: str) -> RowSource:
    path = Path(name)
    with suppress(RuntimeError):  # no such user: the file is then missing under the name as it is
        path = path.expanduser()
    where = f"{key}: {path}"
    reader = _READERS.get(path.suffix.lower())
    try:
        path.stat()
        if path.is_dir():
            raise RequestError(f"{where}: this is a folder; name one file in it")
        if reader is None:
            hint = " (.jsonl has one JSON object on each line)" if path.suffix == ".json" else ""
            raise RequestError(
                f"{where}: the suffix {path.suffix!r} is not known; "
                f"convert the file to one of {', '.join(_READERS)}{hint}"
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
    return RowSource(where, reader(config, where, path))


def _read_csv(config: FilesDataConfig, where: str, path: Path) -> Rows:
    return _read_separated(config, where, path, ",")


def _read_tsv(config: FilesDataConfig, where: str, path: Path) -> Rows:
    return _read_separated(config, where, path, "\t")


def _read_separated(config: FilesDataConfig, where: str, path: Path, delimiter: str) -> Rows:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        lines = _numbered(where, stream, delimiter)
        number, header = next(lines, (1, []))
        if not all(map(is_unicode, header)):
            raise RequestError(f"{where}, line {number}: the header is not UTF-8; {_TO_UTF8}")
        check_columns(config, where, header)
        for number, fields in lines:
            place = f"line {number}"
            if not all(map(is_unicode, fields)):
                yield place, RowError("the row is not UTF-8", _TO_UTF8)
            elif len(fields) != len(header):
                yield (
                    place,
                    RowError(
                        f"the row has {len(fields)} fields and the header {len(header)}",
                        f"put fields that contain {delimiter!r} or a line break in double quotes",
                    ),
                )
            else:
                yield place, dict(zip(header, fields, strict=True))


def _numbered(where: str, stream: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank, each with the number of its first line."""
    # strict: else a quote that is never closed makes one field of the rest of the file.
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            with _long_fields():
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Never skipped: after an unmatched quote the start of the next row is unknown.
            raise RequestError(
                f"{where}, line {number}: the row that begins here is malformed ({error}); "
                "write a double quote inside a quoted field twice, and close the field with one"
            ) from error
        if fields:
            yield number, fields


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters a field.

    The limit is global, so it is lifted for one row at a time: a reader may stop half-way.
    """
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_jsonl(config: FilesDataConfig, where: str, path: Path) -> Rows:
    # newline: a lone \r is whitespace in JSON, not the end of a line.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield f"line {number}", _parse(line)


def _parse(line: str) -> Mapping[str, object] | RowError:
    remedy = "write one JSON object on each line"
    if not is_unicode(line):
        return RowError("the row is not UTF-8", _TO_UTF8)
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return RowError(f"the row is not JSON ({error.msg}, character {error.colno})", remedy)
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        return RowError(f"the row cannot be read as JSON ({error})", remedy)
    if not isinstance(row, dict):
        return RowError(f"the row is {kind(row)}, not an object", remedy)
    return row


def _read_parquet(config: FilesDataConfig, where: str, path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_columns(config, where, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=list(wanted_columns(config))):
                for row in range(batch.num_rows):
                    number += 1
                    yield f"row {number}", _values(batch, row)
    except (pyarrow.ArrowException, OSError) as error:
        raise RequestError(
            f"{where}: this is not a sound Parquet file ({_first_line(error)}); write it again"
        ) from error


def _values(batch: Any, row: int) -> Mapping[str, object] | RowError:
    # Value by value: one text that is not UTF-8 makes the whole of to_pylist fail.
    try:
        return {name: batch.column(name)[row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        return RowError("the row is not UTF-8", "write texts as UTF-8")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


_READERS: dict[str, Callable[[FilesDataConfig, str, Path], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
