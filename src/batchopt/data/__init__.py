"""Dialogues with their summaries, from wherever they come.

`Example` is what every source yields. Reading needs no torch and no model.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """One dialogue with one or several reference summaries.

    `summaries` holds at least one text; the first is trained on, all count in ROUGE.
    """

    id: str
    dialogue: str
    summaries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The two disjoint splits of one data set.

    `skipped_rows` counts what `data.on_bad_row=skip` left out of both splits.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    skipped_rows: int = 0
