"""Dialogues with their summaries, from wherever they come.

`Example` is what every source yields. Reading needs no torch and no model.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Example:
    """One dialogue with one or several reference summaries.

    `summaries` holds at least one text; the first is trained on, all count in ROUGE.
    """

    id: str
    dialogue: str
    summaries: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """The two disjoint splits of one data set.

    `skipped_rows` counts the rows of both splits that `data.on_bad_row=skip` left out. `read_as`
    says in a clause each what was found out about the files.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    skipped_rows: int = 0
    read_as: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the content of both splits, in hexadecimal digits.

        It depends on ids, texts and their order. It does not depend on the place or the format of
        the files.
        """
        digest = hashlib.sha256()
        for split, examples in (("train", self.train), ("validation", self.validation)):
            for example in examples:
                line = json.dumps([split, example.id, example.dialogue, example.summaries])
                digest.update(line.encode() + b"\n")
        return digest.hexdigest()
