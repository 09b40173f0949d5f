"""The rules for every row of a data set, and how rows become a corpus.

A source (files.py, hub.py) yields its rows in order, each with its place in the source. The rules,
the count of bad rows, the hold-out split and the messages are here.
"""

import difflib
import logging
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from batchopt.data import Corpus, Example
from batchopt.errors import RequestError
from batchopt.request.config import BadRow, RowDataConfig

logger = logging.getLogger(__name__)


class RowError(Exception):
    """One row breaks a rule; `remedy` says how to mend it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


Rows = Generator[tuple[str, Mapping[str, object] | RowError], None, None]


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows in the order of their source.

    Attributes:
        where: The key and its value, the beginning of a message: "data.train_file: train.csv".
        rows: The place of each row ("line 7") and its values by column; a RowError in place of the
            values if the row could not be read. Closed after use, so that no file stays open.
    """

    where: str
    rows: Rows


def build_corpus(config: RowDataConfig, train: RowSource, validation: RowSource | None) -> Corpus:
    """Checks all rows and makes the two splits.

    Args:
        config: Column names, what to do with bad rows, and how to hold out.
        train: Training rows.
        validation: Validation rows; None: a share of the training rows is held out.

    Raises:
        RequestError: A wrong value of the config, a missing column, a bad row (unless bad rows are
            skipped), or a source without a usable row.
    """
    _check(config)
    train_examples, skipped = _read(config, train, "train")
    if validation is None:
        train_examples, validation_examples = _hold_out(config, train_examples, train.where)
    else:
        validation_examples, more = _read(config, validation, "validation")
        skipped += more
    train_examples = train_examples[: config.max_train_examples]
    _warn_of_leaks(train_examples, validation_examples)
    return Corpus(tuple(train_examples), tuple(validation_examples), skipped_rows=skipped)


def wanted_columns(config: RowDataConfig) -> dict[str, str]:
    """Returns the columns to read, each with the config key that names it."""
    wanted = {config.dialogue_column: "data.dialogue_column"}
    wanted |= dict.fromkeys(config.summary_columns, "data.summary_columns")
    if config.id_column is not None:
        wanted.setdefault(config.id_column, "data.id_column")
    return wanted


def check_columns(config: RowDataConfig, where: str, columns: Sequence[str]) -> None:
    """Checks that the columns of a source contain each wanted column exactly once.

    Raises:
        RequestError: A column is missing or there twice.
    """
    for column, key in wanted_columns(config).items():
        if column not in columns:
            error = _missing_column(column, key, columns)
            raise RequestError(f"{where}: {error}; {error.remedy}")
        if columns.count(column) > 1:
            raise RequestError(
                f"{where}: the column {column!r} is there {columns.count(column)} times; rename one"
            )


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded, that is, contains no half of a surrogate pair.

    Where a file is read with `surrogateescape`, bytes that are not UTF-8 become such halves.
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
    if not config.summary_columns:
        raise RequestError(
            "data.summary_columns is []; it must name at least one column, such as [summary]"
        )
    if config.dialogue_column in config.summary_columns:
        raise RequestError(
            f"data.summary_columns names {config.dialogue_column!r}, which is also "
            "data.dialogue_column; name two different columns"
        )


def _read(config: RowDataConfig, source: RowSource, split: str) -> tuple[list[Example], int]:
    """Returns the usable examples of a source in its order, and how many rows were left out."""
    examples: list[Example] = []
    places: dict[str, str] = {}
    problems: list[str] = []
    unseen = wanted_columns(config)
    columns: Sequence[str] = ()
    number = -1
    with closing(source.rows) as rows:
        for number, (place, row) in enumerate(rows):
            try:
                if isinstance(row, RowError):
                    raise row
                columns = list(row)
                for column in columns:
                    unseen.pop(column, None)
                example = _example(config, row, f"{split}-{number}")
                if example.id in places:
                    raise RowError(
                        f"the id {short(example.id)} is already that of {places[example.id]}",
                        "make the ids unique, or number the rows with data.id_column=null",
                    )
            except RowError as error:
                if config.on_bad_row is BadRow.error:
                    raise RequestError(
                        f"{source.where}, {place}: {error}; {error.remedy}, "
                        "or leave such rows out with data.on_bad_row=skip"
                    ) from None
                problems.append(f"{place}: {error}")
            else:
                places[example.id] = place
                examples.append(example)
    if number < 0:
        raise RequestError(f"{source.where}: there are no rows; name data with at least one row")
    if columns:
        # Each row of JSON has its own columns, so only now it is known that no row has this one.
        # Without this check a misspelled reference column would be ignored silently.
        for column, key in unseen.items():
            missing = _missing_column(column, key, columns)
            raise RequestError(f"{source.where}: {missing}; {missing.remedy}")
    if not examples:
        raise RequestError(
            f"{source.where}: none of the {len(problems)} rows can be used; mend them, "
            f"first {problems[0]}"
        )
    if problems:
        logger.warning(
            "%s: left out %d of %d rows: %s%s",
            source.where,
            len(problems),
            number + 1,
            "; ".join(problems[:3]),
            "; ..." if len(problems) > 3 else "",
        )
    return examples, len(problems)


def _example(config: RowDataConfig, row: Mapping[str, object], number: str) -> Example:
    """Makes an example of a row; `number` is its id if no column is named for it."""
    if config.dialogue_column not in row:
        raise _missing_column(config.dialogue_column, "data.dialogue_column", list(row))
    dialogue = _text(row[config.dialogue_column], config.dialogue_column)
    if not dialogue:
        raise _empty(config.dialogue_column)

    # Of several reference columns, some may be missing from a row of JSON.
    if not any(column in row for column in config.summary_columns):
        raise _missing_column(config.summary_columns[0], "data.summary_columns", list(row))
    summaries = tuple(_references(config, row))
    if not summaries:
        raise _empty(*config.summary_columns)

    if config.id_column is None:
        return Example(number, dialogue, summaries)
    if config.id_column not in row:
        raise _missing_column(config.id_column, "data.id_column", list(row))
    value = row[config.id_column]
    name = str(value) if type(value) is int else _text(value, config.id_column)
    if not name:
        raise _empty(config.id_column)
    return Example(name, dialogue, summaries)


def _references(config: RowDataConfig, row: Mapping[str, object]) -> Iterator[str]:
    """Yields the summaries that are not empty, in the order of the columns."""
    for column in config.summary_columns:
        value = row.get(column)
        for item in value if isinstance(value, list) else [value]:
            if text := _text(item, column):
                yield text


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
