"""The words with which a run was asked for, and the keys that change none of its numbers.

Both stand with the record because the analysis, which imports nothing else of batchopt, reads the
same words and compares runs by the same list as the hash of a config and a resumed sweep do.
"""

import re
from dataclasses import dataclass

CHANGES_NO_NUMBER = (
    "cache_dir",
    "device.wait_for_free",
    "hydra",
    "objective",
    "run",
    "sweep",
    "tracker",
    "verify",
)
"""Keys and groups that change no number of a run.

They say where the cache lies, what is checked or waited for before the run, when it is ended from
outside, who is told of it, and which of its metrics a search asks for.
"""

_WORD = re.compile(r"(~|\+{0,2})([^=]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command line, such as `+batch.packing=none`.

    `text` is the whole word. `sign` stands before the key: "", "+", "++" or "~". `value` is None
    where the word has no "=".
    """

    text: str
    sign: str
    key: str
    value: str | None

    @classmethod
    def parse(cls, text: str) -> "Word":
        """Takes a word apart; every text is a word, with an empty key at the least."""
        match = _WORD.fullmatch(text)
        assert match is not None
        return cls(text, *match.groups())


def plain_text(value: str) -> str:
    """Takes the quotes or backslashes off that Hydra's grammar wants around some texts."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return re.sub(rf"\\([\\{value[0]}])", r"\1", value[1:-1])
    return re.sub(r"\\(.)", r"\1", value)


def changes_no_number(key: str) -> bool:
    """Whether a dotted key, or a group, leaves every number of a run as it is."""
    return any(key == own or key.startswith((f"{own}.", f"{own}/")) for own in CHANGES_NO_NUMBER)
