"""Text files opened in the encoding that data.encoding names, or that their bytes show."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from batchopt.data.encodings import called, find_encoding
from batchopt.data.rows import RowError
from batchopt.errors import RequestError
from batchopt.request.config import FilesDataConfig


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding, and whether data.encoding named it."""

    codec: str
    named: bool

    @property
    def called(self) -> str:
        """Its name as people write it."""
        return called(self.codec)

    def not_held(self, what: str) -> str:
        """Says that bytes of a file are not in this encoding, and what to do."""
        error = self.row_error(what)
        return f"{error}; {error.remedy}"

    def row_error(self, what: str = "the row") -> RowError:
        """What is wrong with a row, or another part, that is not in this encoding."""
        if self.named:
            return RowError(
                f"{what} is not {self.called}", "name the file's encoding with data.encoding"
            )
        return RowError(
            f"{what} is not {self.called}, as most of the file is",
            f"write the whole file in {self.called}",
        )


def encoding_of(config: FilesDataConfig, where: str, path: Path) -> Encoding:
    """Takes the encoding that data.encoding names, or finds it.

    Raises:
        RequestError: It is not clear which it is.
    """
    if config.encoding is not None:
        return Encoding(config.encoding, named=True)
    found = find_encoding(path)
    if found is None:
        raise RequestError(
            f"{where}: this is neither UTF-8 nor UTF-16 nor Korean text in CP949; name its "
            "encoding with data.encoding, such as cp1252 or shift_jis, or save it as UTF-8"
        )
    return Encoding(found, named=False)


@contextmanager
def open_text(path: Path, encoding: Encoding, newline: str = "") -> Iterator[TextIO]:
    """Opens a file; bytes that are not in the encoding become halves of surrogate pairs.

    A byte order mark is no part of the text.
    """
    with path.open(encoding=encoding.codec, errors="surrogateescape", newline=newline) as stream:
        if stream.read(1) != "\ufeff":
            stream.seek(0)
        yield stream
