"""Dialogues that are lists of turns, and the nested JSON in which Korean ones are published."""

import re
from collections.abc import Mapping, Sequence

SPEAKERS = ("speaker", "speakerid", "participantid", "participant", "speakername", "role", "name")
TEXTS = ("utterance", "text", "form", "content", "sentence", "message", "value")
"""What a turn's keys are called, without capitals and underscores; the first that is there counts.
NIKL has `form` and `original_form`."""

Keys = tuple[str, ...]
DIALOGUES: tuple[Keys, ...] = (
    ("body", "dialogue"),
    ("body", "utterance"),
    ("input", "conversation"),
    ("input", "dialogue"),
    ("dialogue",),
    ("dialogue", "utterance"),
    ("utterance",),
    ("utterances",),
    ("conversation",),
)
SUMMARIES: tuple[Keys, ...] = (
    ("body", "summary"),
    ("output",),
    ("output", "summary"),
    ("annotation",),
    ("annotation", "summary"),
    ("summary",),
)
NAMES: tuple[Keys, ...] = (("header", "dialogueInfo", "dialogueID"), ("id",), ("document_id",))
"""Where a dialogue, its summary and its name stand. AI Hub: data[].body; NIKL (모두의 말뭉치):
document[], or input and output as in its tasks."""

LISTS = ("data", "document", "documents", "dialogues")
"""Keys of the list of dialogues in a JSON object."""


def turn_text(turn: object) -> str | None:
    """The text of a turn, `speaker: text` where it names a speaker; None: this is no turn."""
    if isinstance(turn, str):
        return turn.strip()
    if not isinstance(turn, Mapping):
        return None
    keys = {re.sub(r"[_\- ]", "", str(key).lower()): key for key in turn}
    text = next((turn[keys[name]] for name in TEXTS if name in keys), None)
    has_text = any(name in keys for name in TEXTS)
    if not has_text or not isinstance(text, str | None):
        return None
    text = (text or "").strip()
    speaker = next((turn[keys[name]] for name in SPEAKERS if name in keys), None)
    if not text or speaker is None or isinstance(speaker, Mapping | list):
        return text
    return f"{speaker}: {text}"


def is_dialogue(value: object) -> bool:
    """Whether this is a list of turns, or a text."""
    if isinstance(value, list):
        return bool(value) and all(turn_text(turn) is not None for turn in value)
    return isinstance(value, str)


def find_nested(
    row: Mapping[str, object],
) -> tuple[Keys, Keys, Mapping[str, object]] | None:
    """Finds a dialogue and its summary inside of an object.

    Returns:
        The keys that lead to the dialogue, those that lead to the summary, and the values by
        name: dialogue, summary and id (None without one); None where there are none.
    """
    for to_dialogue in DIALOGUES:
        dialogue = value_at(row, to_dialogue)
        if not is_dialogue(dialogue):
            continue
        for to_summary in SUMMARIES:
            summary = _summary(value_at(row, to_summary))
            if summary is not None:
                name = next((found for at in NAMES if (found := value_at(row, at))), None)
                found = {"dialogue": dialogue, "summary": summary, "id": name}
                return to_dialogue, to_summary, found
    return None


def value_at(row: object, path: Keys) -> object:
    """The value that keys lead to; None where there is none."""
    for key in path:
        if not isinstance(row, Mapping):
            return None
        row = row.get(key)
    return row


def _summary(value: object) -> str | list[str] | None:
    """A summary, or several; annotations may be objects with a summary in each."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        texts = [item.get("summary") if isinstance(item, Mapping) else item for item in value]
        if all(isinstance(text, str) for text in texts):
            return [str(text) for text in texts]
    return None


def find_list(document: object, known: Sequence[str]) -> tuple[list[object], Keys] | None:
    """Finds the rows of a JSON document: a list, the list in an object, or the object itself.

    Args:
        document: What the file holds.
        known: Columns that make an object a row.

    Returns:
        The rows, and the key of their list, empty where there is none; None where there are none.
    """
    if isinstance(document, list):
        inner = [find_list(item, known) for item in document if isinstance(item, Mapping)]
        keys = {found[1] for found in inner if found is not None}
        if len(inner) == len(document) and None not in inner and keys and () not in keys:
            # A list of whole files.
            rows = [row for found in inner if found is not None for row in found[0]]
            return rows, next(iter(keys))
        return document, ()
    if not isinstance(document, Mapping):
        return None
    if any(name in document for name in known) or find_nested(document) is not None:
        return [document], ()
    lists = [
        str(key)
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value)
    ]
    key = next((name for name in LISTS if name in lists), lists[0] if len(lists) == 1 else None)
    return None if key is None else (document[key], (key,))
