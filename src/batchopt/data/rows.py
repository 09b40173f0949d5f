"""The rules that every row of a person's own data must keep, and how rows become a corpus.

A source (files.py, hub.py) hands over its rows in order, each with its place in the source; the
rules, the counting of bad rows, the hold-out split and the words of the errors live here.
"""

import difflib
import logging
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from batchopt.data import Corpus, Example
from batchopt.data.turns import turn_text
from batchopt.errors import RequestError
from batchopt.request.config import BadRow, RowDataConfig

logger = logging.getLogger(__name__)


class RowError(Exception):
    """What is wrong with one row, and how to mend it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of one split are called, each with the key that says so."""

    dialogue: str
    summaries: tuple[str, ...]
    id: str | None
    dialogue_key: str = "data.dialogue_column"
    summaries_key: str = "data.summary_columns"

    def wanted(self) -> dict[str, str]:
        """The columns to read, each with the key that names it."""
        wanted = {self.dialogue: self.dialogue_key}
        wanted |= dict.fromkeys(self.summaries, self.summaries_key)
        if self.id is not None:
            wanted.setdefault(self.id, "data.id_column")
        return wanted


def train_columns(config: RowDataConfig) -> Columns:
    """The columns of the training data."""
    return Columns(config.dialogue_column, tuple(config.summary_columns), config.id_column)


def validation_columns(config: RowDataConfig) -> Columns:
    """The columns of the validation data."""
    own = config.validation_summary_columns
    return Columns(
        config.validation_dialogue_column or config.dialogue_column,
        tuple(config.summary_columns if own is None else own),
        config.id_column,
        "data.validation_dialogue_column",
        "data.validation_summary_columns",
    )


Rows = Generator[tuple[str, Mapping[str, object] | RowError], None, None]


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows in the order of their source.

    Attributes:
        where: The key and what it names, as errors begin: "data.train_file: train.csv".
        columns: What its columns are called.
        rows: Each row's place ("line 7") and its values by column; a RowError stands in for a
            row that could not be read. Closed after use, so that an error leaves no file open.
    """

    where: str
    columns: Columns
    rows: Rows


def build_corpus(
    config: RowDataConfig, train: Sequence[RowSource], validation: Sequence[RowSource] | None
) -> Corpus:
    """Checks all rows and makes the two splits.

    Args:
        config: How to hold out, and how much to keep.
        train: Training rows, from one or several sources.
        validation: Validation rows; None: a share of the training rows is held out.

    Raises:
        RequestError: A wrong value of the config, a missing column, a bad row (unless they are
            skipped), or a source without a usable row.
    """
    _check(config)
    train_examples, skipped = _Split("train", config).read_all(train)
    if validation is None:
        train_examples, validation_examples = _hold_out(config, train_examples, train[0].where)
    else:
        validation_examples, more = _Split("validation", config).read_all(validation)
        skipped += more
    train_examples = train_examples[: config.max_train_examples]
    _warn_of_leaks(train_examples, validation_examples)
    return Corpus(tuple(train_examples), tuple(validation_examples), skipped_rows=skipped)


def check_columns(columns: Columns, where: str, names: Sequence[str]) -> None:
    """Checks that a source whose columns are known beforehand has each wanted one, once.

    Raises:
        RequestError: The first column that is missing or there twice.
    """
    for column, key in columns.wanted().items():
        if column not in names:
            error = _missing_column(column, key, names)
            raise RequestError(f"{where}: {error}; {error.remedy}")
        if names.count(column) > 1:
            raise RequestError(
                f"{where}: the column {column!r} is there {names.count(column)} times; rename one"
            )


def is_unicode(text: str) -> bool:
    """Says whether the text can be encoded, that is, has no half of a surrogate pair.

    Bytes that are not UTF-8 show as such halves where a file is read with `surrogateescape`.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """Names the kind of a JSON or Arrow value in plain words."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def short(value: object) -> str:
    """Quotes a value in at most 40 characters and without line breaks."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _check(config: RowDataConfig) -> None:
    """Checks the keys; those of the validation data have names of their own."""
    if not 0 < config.validation_fraction < 1:
        raise RequestError(
            f"data.validation_fraction is {config.validation_fraction}; "
            "it must be greater than 0 and less than 1"
        )
    if config.max_train_examples is not None and config.max_train_examples < 1:
        raise RequestError(
            f"data.max_train_examples is {config.max_train_examples}; "
            "it must be 1 or more, or null for all"
        )
    columns = config.summary_columns
    _check_columns("", config.dialogue_column, columns)
    _check_columns(
        "validation_",
        config.validation_dialogue_column or config.dialogue_column,
        columns if config.validation_summary_columns is None else config.validation_summary_columns,
    )


def _check_columns(split: str, dialogue: str, summaries: Sequence[str]) -> None:
    if not summaries:
        raise RequestError(
            f"data.{split}summary_columns is []; it must name at least one column, such as "
            "[summary]"
        )
    if dialogue in summaries:
        raise RequestError(
            f"data.{split}summary_columns names {dialogue!r}, which is also "
            f"data.{split}dialogue_column; name two different columns"
        )


class _Split:
    """Reads the sources of one split; the numbers and the names of its rows go through all."""

    def __init__(self, name: str, config: RowDataConfig) -> None:
        self.name = name
        self.config = config
        self.examples: list[Example] = []
        self.places: dict[str, str] = {}
        self.rows = 0
        self.skipped = 0

    def read_all(self, sources: Sequence[RowSource]) -> tuple[list[Example], int]:
        """Returns the usable examples in their order, and how many rows were left out."""
        for source in sources:
            self._read(source, several=len(sources) > 1)
        return self.examples, self.skipped

    def _read(self, source: RowSource, *, several: bool) -> None:
        config, before = self.config, len(self.examples)
        problems: list[tuple[str, RowError]] = []
        unseen = source.columns.wanted()
        names: Sequence[str] = ()
        count = 0
        with closing(source.rows) as rows:
            for count, (place, row) in enumerate(rows, start=1):
                try:
                    if isinstance(row, RowError):
                        raise row
                    names = list(row)
                    for name in names:
                        unseen.pop(name, None)
                    number = f"{self.name}-{self.rows + count - 1}"
                    example = _example(config, source.columns, row, number)
                    if example.id in self.places:
                        raise RowError(
                            f"the id {short(example.id)} is already that of "
                            f"{self.places[example.id]}",
                            "make the ids unique, or number the rows with data.id_column=null",
                        )
                except RowError as error:
                    problems.append((place, error))
                else:
                    at = f"{place} of {source.where.partition(': ')[2]}" if several else place
                    self.places[example.id] = at
                    self.examples.append(example)
                # To leave such rows out is a remedy only where other rows are left.
                if problems and config.on_bad_row is BadRow.error and len(self.examples) > before:
                    first, wrong = problems[0]
                    raise RequestError(
                        f"{source.where}, {first}: {wrong}; {wrong.remedy}, "
                        "or leave such rows out with data.on_bad_row=skip"
                    )
        if not count:
            raise RequestError(
                f"{source.where}: there are no rows; name data with at least one row"
            )
        if names:
            # Rows of JSON carry their own columns: only now is it known that none has this one. An
            # extra reference column that is misspelled would otherwise be ignored in silence.
            for column, key in unseen.items():
                missing = _missing_column(column, key, names)
                raise RequestError(f"{source.where}: {missing}; {missing.remedy}")
        if len(self.examples) == before:
            first, wrong = problems[0]
            raise RequestError(
                f"{source.where}: none of the {count} rows can be used; mend them, "
                f"first {first}: {wrong}; {wrong.remedy}"
            )
        self.rows += count
        self.skipped += len(problems)
        if problems:
            logger.warning(
                "%s: left out %d of %d rows: %s%s",
                source.where,
                len(problems),
                count,
                "; ".join(f"{place}: {error}" for place, error in problems[:3]),
                "; ..." if len(problems) > 3 else "",
            )


def _example(
    config: RowDataConfig, columns: Columns, row: Mapping[str, object], number: str
) -> Example:
    """Makes an example of a row; `number` is its id where no column has one."""
    if columns.dialogue not in row:
        raise _missing_column(columns.dialogue, columns.dialogue_key, list(row))
    dialogue = _dialogue(row[columns.dialogue], columns.dialogue, config.turn_separator)
    if not dialogue:
        raise _empty(columns.dialogue)

    # Of several reference columns, some may be missing from a row of JSON.
    if not any(column in row for column in columns.summaries):
        raise _missing_column(columns.summaries[0], columns.summaries_key, list(row))
    summaries = tuple(_references(columns, row))
    if not summaries:
        raise _empty(*columns.summaries)

    if columns.id is None:
        return Example(number, dialogue, summaries)
    if columns.id not in row:
        raise _missing_column(columns.id, "data.id_column", list(row))
    value = row[columns.id]
    name = str(value) if type(value) is int else _text(value, columns.id)
    if not name:
        raise _empty(columns.id)
    return Example(name, dialogue, summaries)


def _references(columns: Columns, row: Mapping[str, object]) -> Iterator[str]:
    """Yields the summaries that are not empty, in the order of the columns."""
    for column in columns.summaries:
        value = row.get(column)
        for item in value if isinstance(value, list) else [value]:
            if text := _text(item, column):
                yield text


def _dialogue(value: object, column: str, separator: str) -> str:
    """Returns a dialogue as one text; a list of turns is joined, empty ones left out."""
    if not isinstance(value, list):
        return _text(value, column)
    turns = []
    for turn in value:
        text = turn_text(turn)
        if text is None:
            keys = f" with {_names(list(turn))}" if isinstance(turn, Mapping) else ""
            raise RowError(
                f"the column {column!r} holds a list with {kind(turn)}{keys}, which is no turn",
                "write turns as texts, or as objects with speaker and text",
            )
        turns.append(_text(text, column))
    return unescaped(separator).join(turn for turn in turns if turn)


def unescaped(text: str) -> str:
    r"""Turns \n and \t, as one types them in a key, into a line break and a tab."""
    return text.replace(r"\n", "\n").replace(r"\t", "\t")


def _text(value: object, column: str) -> str:
    """Returns a text without outer whitespace and with plain line ends; null is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"the column {column!r} holds {kind(value)}, not text", "write it as text")
    if not is_unicode(value):
        raise RowError(
            f"the column {column!r} holds half of a surrogate pair, which is no character",
            "write whole characters",
        )
    return value.replace("\r\n", "\n").strip()


def _empty(*columns: str) -> RowError:
    if len(columns) == 1:
        return RowError(f"the column {columns[0]!r} is empty", "fill it")
    return RowError(f"the columns {_names(columns)} are all empty", "fill one of them")


def _missing_column(column: str, key: str, columns: Sequence[str]) -> RowError:
    near = difflib.get_close_matches(column, columns, n=1)
    return RowError(
        f"there is no column {column!r}, only {_names(columns) or 'none'}",
        f"set {key} to what it is called" + (f", perhaps {short(near[0])}" if near else ""),
    )


def _names(columns: Sequence[str]) -> str:
    shown = [short(column) for column in columns[:12]]
    return ", ".join([*shown, "..."] if len(columns) > 12 else shown)


def _hold_out(
    config: RowDataConfig, examples: Sequence[Example], where: str
) -> tuple[list[Example], list[Example]]:
    """Draws the validation examples; both splits keep the order of the source."""
    if len(examples) < 2:
        raise RequestError(
            f"{where}: one usable row cannot be split by data.validation_fraction; "
            "it takes two or more, or name validation data of its own"
        )
    order = list(range(len(examples)))
    random.Random(config.split_seed).shuffle(order)
    count = round(len(examples) * config.validation_fraction)
    held_out = set(order[: min(max(count, 1), len(examples) - 1)])
    return (
        [example for index, example in enumerate(examples) if index not in held_out],
        [example for index, example in enumerate(examples) if index in held_out],
    )


def _warn_of_leaks(train: Iterable[Example], validation: Sequence[Example]) -> None:
    seen = {(example.dialogue, example.summaries) for example in train}
    leaks = [example for example in validation if (example.dialogue, example.summaries) in seen]
    if leaks:
        logger.warning(
            "%d of %d validation examples are training examples too (first: %s); "
            "ROUGE will look better than it is",
            len(leaks),
            len(validation),
            short(leaks[0].id),
        )
