"""Rows of .json and .jsonl files: a list of objects, an object a line, or nested as published."""

import json
from collections.abc import Mapping
from pathlib import Path

from batchopt.data.findings import Findings
from batchopt.data.rows import Columns, RowError, Rows, is_unicode, kind, short
from batchopt.data.text_files import Encoding, open_text
from batchopt.data.turns import find_list, find_nested
from batchopt.errors import RequestError


def read_json(
    columns: Columns, where: str, path: Path, encoding: Encoding, found: Findings
) -> Rows:
    """Yields the rows of a .json file, which is held whole; one object a line is read as such.

    Raises:
        RequestError: It is no JSON, or holds no list of objects.
    """
    try:
        with open_text(path, encoding) as stream:
            document = json.loads(stream.read())
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _read_lines(columns, path, encoding, found)
            return
        raise RequestError(
            f"{where}, line {error.lineno}: this is not JSON ({error.msg}, character "
            f"{error.colno}); write it again, as a list of objects"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers or nesting beyond Python's limits
        raise RequestError(f"{where}: cannot be read as JSON ({error}); write it again") from error
    listed = find_list(document, list(columns.wanted()))
    if listed is None:
        keys = f" with {', '.join(map(short, document))}" if isinstance(document, Mapping) else ""
        raise RequestError(
            f"{where}: this JSON is {kind(document)}{keys[:200]}, and no list of objects is in it; "
            "write one, as in [{"
            f'"{columns.dialogue}": …, "{columns.summaries[0]}": …'
            "}]"
        )
    rows, at = listed
    shape = _Shape(columns, path, at, found)
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", shape.row(row, "write a list of objects")


def read_jsonl(
    columns: Columns, where: str, path: Path, encoding: Encoding, found: Findings
) -> Rows:
    """Yields the rows of a .jsonl file, which is not held whole; a list of objects is read too."""
    with open_text(path, encoding, newline="\n") as stream:
        first = next((line for line in stream if line.strip()), "").strip()
    if first.startswith("[") and not isinstance(_parse(first, encoding), Mapping):
        try:
            with open_text(path, encoding) as stream:
                json.loads(stream.read())
        except (ValueError, RecursionError):
            pass  # its lines say what is wrong
        else:
            yield from read_json(columns, where, path, encoding, found)
            return
    yield from _read_lines(columns, path, encoding, found)


def _read_lines(columns: Columns, path: Path, encoding: Encoding, found: Findings) -> Rows:
    shape = _Shape(columns, path, (), found)
    # newline: a lone \r is whitespace in JSON and ends no line.
    with open_text(path, encoding, newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                row = _parse(line, encoding)
                remedy = "write one JSON object on each line"
                yield f"line {number}", row if isinstance(row, RowError) else shape.row(row, remedy)


def _parse(line: str, encoding: Encoding) -> object:
    """What a line of JSON holds, or the RowError that says why it cannot be read."""
    if not is_unicode(line):
        return encoding.row_error()
    remedy = "write one JSON object on each line"
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return RowError(f"the row is not JSON ({error.msg}, character {error.colno})", remedy)
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        return RowError(f"the row cannot be read as JSON ({error})", remedy)


class _Shape:
    """Takes dialogues and summaries out of nested objects, and says once where they stood."""

    def __init__(
        self, columns: Columns, path: Path, at: tuple[str, ...], findings: Findings
    ) -> None:
        self.columns = columns
        self.path = path
        self.findings = findings
        self.at = "".join(f"{key}[]." for key in at)
        self.said = False

    def row(self, row: object, remedy: str) -> Mapping[str, object] | RowError:
        """The values of an object by column."""
        if not isinstance(row, Mapping):
            return RowError(f"the row is {kind(row)}, not an object", remedy)
        columns = self.columns
        if columns.dialogue in row and any(name in row for name in columns.summaries):
            return row
        found = find_nested(row)
        if found is None:
            return row
        to_dialogue, to_summary, values = found
        if not self.said:
            self.said = True
            self.findings.add(
                self.path,
                f"dialogues from {self.at}{'.'.join(to_dialogue)}, "
                f"summaries from {self.at}{'.'.join(to_summary)}",
            )
        taken = {
            columns.dialogue: values["dialogue"],
            columns.summaries[0]: values["summary"],
        }
        if columns.id is not None and columns.id not in row:
            taken[columns.id] = values["id"]
        return {**row, **taken}
