"""What was found out about the files of a corpus, to be said where the run is planned."""

from pathlib import Path


class Findings:
    """Collects findings by file; files of which the same is true share a clause."""

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = {}

    def add(self, path: Path, what: str) -> None:
        """Adds a finding, as "train.csv: " goes before it."""
        names = self._files.setdefault(what, [])
        if path.name not in names:
            names.append(path.name)

    def clauses(self) -> list[str]:
        """The findings, a clause each."""
        return [
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {what}"
            for what, names in self._files.items()
        ]
