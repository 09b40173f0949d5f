"""How dialogues and summaries become rows of tokens: one interface for both kinds of models.

Here is an encoder-decoder's way: two texts, each with the tokens at its ends. `prompts` has the way
of decoder-only models.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchopt.data.ends import Ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as tokens. `cut` were too long; `complete` had their ends from the tokenizer."""

    tokens: list[list[int]]
    cut: int
    complete: int


class Texts(ABC):
    """Makes sources and labels of at most `limit` tokens, complete also where they are cut.

    `label_end` is the token that ends every label. `source_ends` shows the tokens around every
    source, and `prompt` says where the prompt around a dialogue is from; empty: there is none.
    """

    label_end: int
    source_ends: str = ""
    prompt: str = ""

    @abstractmethod
    def sources(self, dialogues: Sequence[str], limit: int) -> Rows:
        """Tokenises dialogues."""

    @abstractmethod
    def labels(self, summaries: Sequence[str], limit: int) -> Rows:
        """Tokenises summaries."""


class PlainTexts(Texts):
    """Dialogues, with a prefix where the model was trained with one, and summaries."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", ends: Ends, prefix: str) -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        self.prefix = prefix
        self.label_end = ends.label_end
        begin = [] if ends.source_begin is None else [ends.source_begin]
        tokens = [*tokenizer.convert_ids_to_tokens(begin), "…"]
        self.source_ends = " ".join([*tokens, *tokenizer.convert_ids_to_tokens([ends.source_end])])

    def sources(self, dialogues: Sequence[str], limit: int) -> Rows:
        """Tokenises dialogues with their prefix, as inputs."""
        texts = [self.prefix + dialogue for dialogue in dialogues]
        return self._rows("text", texts, limit, self.ends.complete_source)

    def labels(self, summaries: Sequence[str], limit: int) -> Rows:
        """Tokenises summaries, as targets."""
        return self._rows("text_target", summaries, limit, self.ends.complete_label)

    def _rows(
        self, kind: str, texts: Sequence[str], limit: int, finish: Callable[..., list[int]]
    ) -> Rows:
        # First whole, to count what is cut. Then the tokenizer cuts, since it keeps its own ends.
        own: list[list[int]] = self.tokenizer(**{kind: list(texts)}, verbose=False)["input_ids"]
        rows = [finish(row) for row in own]
        complete = sum(len(row) == len(more) for row, more in zip(own, rows, strict=True))
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        if long:
            again = {kind: [texts[index] for index in long]}
            room = max(1, limit - max(len(rows[index]) - len(own[index]) for index in long))
            shorter = self.tokenizer(**again, truncation=True, max_length=room)["input_ids"]
            for index, row in zip(long, shorter, strict=True):
                rows[index] = finish(row, limit)
        return Rows(rows, len(long), complete)
