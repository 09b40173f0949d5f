"""Rows of somebody's own data set: the columns for the model, the lengths, the longest row."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from batchopt.step.micro_batches import Length

LABELS = ("label", "label_ids", "labels")
"""Columns that the Trainer keeps beside the arguments of the model's forward."""

AT_ONCE = 1000
"""Rows that are read at a time."""


def is_encoder_decoder(model: Any) -> bool:
    """Whether the labels are a sequence of their own, for a decoder behind an encoder."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def rows_for_model(model: nn.Module, dataset: Any, indices: list[int]) -> list[dict[str, Any]]:
    """Reads rows, and of each the columns that the Trainer would hand to the collator.

    Each row is a new dict: some collators write into it.
    """
    whole: Any = model
    base = whole.get_base_model() if hasattr(model, "get_base_model") else whole
    taken = {*inspect.signature(base.forward).parameters, *LABELS}
    rows = (dataset[index] for index in indices)
    return [{name: value for name, value in row.items() if name in taken} for row in rows]


def row_lengths(model: Any, dataset: Any) -> list[Length]:
    """The source and target tokens of every row.

    The labels of a decoder-only model stand beside its tokens, so its targets count as 1.

    Raises:
        ValueError: The data set has no length, no rows, or a row has no tokens.
    """
    if not hasattr(dataset, "__len__") or not len(dataset):
        raise ValueError(
            "train_dataset must have a length and at least one row; materialise a stream first, "
            "such as list(itertools.islice(stream, 10_000))"
        )
    names = ["input_ids", "labels"] if is_encoder_decoder(model) else ["input_ids"]
    lengths: list[Length] = []
    for number, row in enumerate(_read(dataset, names)):
        for name in names:
            if not isinstance(row, Mapping) or name not in row or not len(row[name]):
                raise ValueError(
                    f"train_dataset: row {number} has no {name}; tokenize the data set first, as "
                    "for the Trainer"
                )
        lengths.append((len(row["input_ids"]), len(row["labels"]) if len(names) > 1 else 1))
    return lengths


def worst_row(model: nn.Module, dataset: Any, lengths: list[Length]) -> dict[str, Any]:
    """A row of the longest source and the longest target of the data, be they of one row or two."""
    longest = max(range(len(lengths)), key=lambda index: lengths[index][0])
    (row,) = rows_for_model(model, dataset, [longest])
    if is_encoder_decoder(model):
        other = max(range(len(lengths)), key=lambda index: lengths[index][1])
        row["labels"] = dataset[other]["labels"]
        row.pop("decoder_input_ids", None)  # they belong to the labels that are gone
        row.pop("decoder_attention_mask", None)
    return row


def _read(dataset: Any, names: list[str]) -> Iterator[Any]:
    """Every row; a data set of the library `datasets` reads only these columns, many at once."""
    columns = getattr(dataset, "column_names", None)
    if (
        not isinstance(columns, list)
        or not hasattr(dataset, "iter")
        or not set(names) <= {*columns}
    ):
        yield from (dataset[index] for index in range(len(dataset)))
        return
    for block in dataset.select_columns(names).iter(batch_size=AT_ONCE):
        for values in zip(*(block[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))
