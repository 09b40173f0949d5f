"""Reads the words of a command line: short forms are spelled out before Hydra sees them.

Every command passes its words through `read_words` once, and everything behind it sees the result:
Hydra, the record, the processes that do the work, a resumed sweep. Reading a result again changes
nothing.
"""

import dataclasses
import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from batchopt.errors import RequestError
from batchopt.record.keys import Word
from batchopt.request.batch_plan import ACCUMULATION, EFFECTIVE, PER_DEVICE, divisor_pairs
from batchopt.request.compose import EXPERIMENT, GROUPS, choices_of
from batchopt.request.config import BatchConfig, Config
from batchopt.request.quoting import holds_text, quote, quoted_text
from batchopt.request.sections import OPEN_TABLES
from batchopt.request.transformers_names import ARGUMENTS, SAME_VALUE

DIVISORS = "batch=divisors"

LONG_NAMES = {
    "05a_small_batch_high_accum": "05a",
    "05b_medium_batch_medium_accum": "05b",
    "05c_large_batch_no_accum": "05c",
}
"""Names of the presets in the scripts from which people come."""


def read_words(typed: Sequence[str]) -> list[str]:
    """Turns words as typed into words of Hydra's grammar; flags stay as they are.

    Raises:
        RequestError: A word is not UTF-8, a word is no KEY=VALUE but part of the one before, or
            `batch=divisors` stands beside a word that contradicts it.
    """
    words = [Word.parse(text) for text in typed]
    _refuse_other_bytes(words)
    _refuse_torn_values(words)
    return _name_divisors([_quote(_read_name(_read_sign(_shorten(word)))) for word in words])


def _refuse_other_bytes(words: Sequence[Word]) -> None:
    """Refuses bytes that are not UTF-8, which no record could hold: names from old archives."""
    for word in words:
        try:
            word.text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{word.text!a} is not UTF-8; rename the file, for example with: "
                "convmv -f cp949 -t utf8 --notest FILE"
            ) from error


def _refuse_torn_values(words: Sequence[Word]) -> None:
    """Refuses words that the shell has torn from the value before them at a blank."""
    for at, word in enumerate(words[:-1]):
        rest = list(itertools.takewhile(_is_stray, words[at + 1 :]))
        whole = " ".join([word.text, *(stray.text for stray in rest)])
        # What nobody can type was not torn at a blank; another message says what it is.
        if rest and word.value is not None and holds_text(word.key) and whole.isprintable():
            raise RequestError(
                f"{rest[0].text!r} is no key=value; no spaces around '=' or after a comma, and "
                f"quotes around a value that has some: {shlex.quote(whole)}"
            )


def _is_stray(word: Word) -> bool:
    """Whether a word is neither KEY=VALUE nor a flag, and no choice that lacks its group."""
    bare = word.value is None and not word.sign and not word.key.startswith("-")
    return bare and not any(word.text in choices_of(group) for group in GROUPS)


def _shorten(word: Word) -> Word:
    """Turns the long names of presets into the short ones, also in a list of several."""
    if word.key != "batch" or word.value is None:
        return word
    value = re.sub(r"\w+", lambda name: LONG_NAMES.get(name[0], name[0]), word.value)
    return Word.parse(f"{word.sign}{word.key}={value}")


def _quote(word: Word) -> Word:
    """Quotes the value where Hydra would not read it as typed; flags have no value of Hydra's."""
    if word.value is None or word.key.startswith("-"):
        return word
    return Word.parse(f"{word.sign}{word.key}={quote(word.key, word.value)}")


def _read_sign(word: Word) -> Word:
    """Turns `+batch=05b` into `batch=05b`, and `experiment=final` into `+experiment=final`.

    Hydra demands the plus for a group outside the defaults list and refuses it for one inside, so
    that no composition takes both `+batch=05b` and `-m batch=05a,05b`; people type both. The groups
    and keys of batchopt are closed: a plus before one of them cannot add anything. The group of
    experiments stands outside the defaults list, since no experiment is chosen by default. The keys
    of an open table are not there before they are set, for which Hydra demands a plus.
    """
    if word.value is None:
        return word
    if (word.sign, word.key) == ("", EXPERIMENT):
        return Word.parse(f"+{word.text}")
    tables = tuple(f"{table}." for table in OPEN_TABLES)
    if word.sign != "~" and f"{word.key}.".startswith(tables):
        return Word.parse(f"++{word.key}={word.value}")
    ours = {field.name for field in dataclasses.fields(Config)}
    if word.sign in ("+", "++") and word.key.partition(".")[0] in ours:
        return Word.parse(word.text.removeprefix(word.sign))
    return word


def _read_name(word: Word) -> Word:
    """Turns the Trainer's name of what batchopt has a key for into that key."""
    table, _, name = word.key.rpartition(".")
    if table != ARGUMENTS or name not in SAME_VALUE or word.value is None:
        return word
    return Word.parse(f"{word.sign}{SAME_VALUE[name]}={word.value}")


def _name_divisors(words: Sequence[Word]) -> list[str]:
    """Spells out `batch=divisors`: batch=custom with every divisor of the effective batch."""
    if DIVISORS not in [word.text for word in words]:
        return [word.text for word in words]
    effective = BatchConfig().effective_batch_size
    for word in words:
        if word.key in (PER_DEVICE, ACCUMULATION):
            raise RequestError(f"{DIVISORS} names every {PER_DEVICE} itself; leave {word.key} out")
        if word.key == EFFECTIVE:
            if not (word.value or "").isdecimal() or int(word.value or "") < 1:
                raise RequestError(
                    f"{EFFECTIVE} is {word.value}; {DIVISORS} needs one whole number"
                )
            effective = int(word.value or "")
    sizes = (str(plan.per_device_train_batch_size) for plan in divisor_pairs(effective))
    spelled = ["batch=custom", f"{PER_DEVICE}={','.join(sizes)}"]
    return [text for word in words for text in (spelled if word.text == DIVISORS else [word.text])]


def quoted(key: str, value: Path) -> str:
    """Makes an override that Hydra reads as this very path, whatever its characters."""
    return f"{key}={quoted_text(str(value))}"
