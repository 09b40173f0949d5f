"""Rows of numbers, kept in columns: as dicts, ten thousand runs would not fit into memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload


class Rows(Sequence[Mapping[str, float]]):
    """A table that is read row by row, each a mapping of names to numbers."""

    __slots__ = ("columns",)

    def __init__(self, columns: Mapping[str, array[float]]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, names: Sequence[str], rows: Iterable[Sequence[float]]) -> Rows:
        """Makes a table of rows, each with a value for every name."""
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        return cls({name: array("d", own) for name, own in zip(names, columns, strict=True)})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @overload
    def __getitem__(self, place: int) -> Mapping[str, float]: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, float] | Rows:
        if isinstance(place, slice):
            return Rows({name: column[place] for name, column in self.columns.items()})
        return {name: column[place] for name, column in self.columns.items()}

    def __iter__(self) -> Iterator[Mapping[str, float]]:
        names = tuple(self.columns)
        return (
            dict(zip(names, row, strict=True)) for row in zip(*self.columns.values(), strict=True)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.columns == other.columns

    __hash__ = None  # type: ignore[assignment]
