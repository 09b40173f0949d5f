"""Rows of text files with separated fields: .csv, .tsv and .txt, as programs write them.

The separator is the one with which the header names the wanted columns; only where none does, the
one that cuts the first rows alike. csv.Sniffer does not know what the columns are called, and
judges by how often each character stands in the texts.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from batchopt.data.rows import Columns, RowError, Rows, check_columns, is_unicode
from batchopt.data.text_files import Encoding, open_text
from batchopt.errors import RequestError
from batchopt.request.config import SEPARATORS

HEAD_CHARACTERS = 2**16
COMPARED_ROWS = 20
USUAL = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
"""Separator by suffix; Excel's "Unicode text" is a .txt with tabs."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's lines become rows.

    `skipped_lines` is 1 where Excel's line `sep=;` stands before the header.
    """

    separator: str
    skipped_lines: int

    @property
    def called(self) -> str:
        """The separator in words."""
        names = {character: name for name, character in SEPARATORS.items()}
        return f"separated by {names.get(self.separator, repr(self.separator))}"


def find_layout(
    named_separator: str | None, columns: Columns, path: Path, encoding: Encoding
) -> Layout:
    """Finds the separator of a file, unless data.separator has named it."""
    with open_text(path, encoding) as stream:
        head = stream.read(HEAD_CHARACTERS)
    named = re.match(r'"?sep=(.)"?\r?\n', head, re.IGNORECASE)
    if named:
        head = head[named.end() :]
    if named_separator is not None:
        separator = SEPARATORS.get(named_separator, named_separator)
        return Layout("\t" if separator == r"\t" else separator, 1 if named else 0)
    if named:
        return Layout(named[1], 1)
    usual = USUAL[path.suffix.lower()]
    wanted = set(columns.wanted())

    def fit(separator: str) -> tuple[int, float, bool]:
        rows = _first_rows(head, separator)
        header = rows[0] if rows else []
        alike = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 0.0
        # One field a row fits every file.
        return len(wanted & set(header)), alike if len(header) > 1 else 0.0, separator == usual

    return Layout(max(SEPARATORS.values(), key=fit), 0)


def read_rows(columns: Columns, where: str, path: Path, encoding: Encoding, layout: Layout) -> Rows:
    """Yields the rows of a file; those without any text at its end are left out, as Excel's are.

    Raises:
        RequestError: A missing column, a header or a quote that cannot be read.
    """
    with open_text(path, encoding) as stream:
        for _ in range(layout.skipped_lines):
            stream.readline()
        lines = _numbered(where, stream, layout)
        number, header = next(lines, (1, []))
        if not all(map(is_unicode, header)):
            raise RequestError(f"{where}, line {number}: {encoding.not_held('the header')}")
        usual = layout.separator == USUAL[path.suffix.lower()]
        check_columns(columns, where if usual else f"{where} ({layout.called})", header)
        blank: list[tuple[str, RowError | dict[str, object]]] = []
        for number, fields in lines:
            row = _row(header, fields, encoding, layout)
            if not "".join(fields).strip():
                blank.append((f"line {number}", row))
                continue
            yield from blank
            blank.clear()
            yield f"line {number}", row


def _row(
    header: list[str], fields: list[str], encoding: Encoding, layout: Layout
) -> RowError | dict[str, object]:
    if not all(map(is_unicode, fields)):
        return encoding.row_error()
    if len(fields) != len(header):
        return RowError(
            f"the row has {len(fields)} fields and the header {len(header)}",
            f"put fields that contain {layout.separator!r} or a line break in double quotes",
        )
    return dict(zip(header, fields, strict=True))


def _first_rows(head: str, separator: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        with _long_fields():
            for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator):
                if row:
                    rows.append(row)
                if len(rows) > COMPARED_ROWS:
                    return rows
    except csv.Error:
        pass
    return rows[:-1] if len(rows) > 1 and len(head) == HEAD_CHARACTERS else rows


def _numbered(where: str, stream: TextIO, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank with the number of the line that each begins in."""
    # strict: without it a quote that is never closed takes the rest of the file for one field.
    reader = csv.reader(stream, delimiter=layout.separator, strict=True)
    while True:
        number = reader.line_num + 1 + layout.skipped_lines
        try:
            with _long_fields():
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Never skipped: after an unmatched quote nobody knows where the next row begins.
            raise RequestError(
                f"{where}, line {number}: the row that begins here is malformed ({error}); "
                "write a double quote inside a quoted field twice, and close the field with one"
            ) from error
        if len(fields) > 1 or (fields and fields[0].strip()):
            yield number, fields


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters a field.

    The limit is global, so it is lifted for one row at a time: a reader may be left half-way.
    """
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
