"""Rows of tokens on disk: mapped into memory, and read one at a time."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any


class TokenRows(Sequence[Any]):
    """The rows of a stream of Arrow, each a dict of lists and texts.

    The library `datasets` reads them too; importing it takes 0.4 s of CPU in every run.

    Args:
        path: A file that `pyarrow.ipc.new_stream` has written.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow

        with pyarrow.memory_map(str(path)) as file:
            self._batches = list(pyarrow.ipc.open_stream(file))
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        batch = self._batches[number]
        (row,) = batch.slice(index - self._ends[number] + batch.num_rows, 1).to_pylist()
        return row
