"""Speakers and masked names, as corpora write them: what they look like, and which are in a corpus.

A tokenizer that does not know `#Person1#` cuts it into pieces. As one token it is shorter, and the
model writes it whole or not at all.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from batchopt.data import Example

MASK = re.compile(
    r"#@시스템#\w+#"
    r"|#@?\w+#"
    r"|\[[A-Z][A-Z0-9_ -]*\]"
    r"|<[A-Z][A-Z0-9_ -]*>"
    r"|\{\w[\w-]*\}"
    r"|(?<!\w)&[a-z][a-z-]*[0-9]*&"
)
"""A speaker, place or other name that the corpus has masked: `#Person1#` (DialogSum), `#@이름#` and
`#@시스템#사진#` (AI Hub), `&name1&` (NIKL), `[NAME]`, `<PERSON>`, `{이름}`. Brackets around small
letters or Hangul are punctuation: `[laughs]`, a film's `<기생충>`."""

FEWEST = 2
"""Examples that must hold a marker: nothing can be learned of a token that is seen once."""

MOST = 100
"""Markers that are taken, the most frequent ones: more are no speakers, but something in brackets
that differs from text to text."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker of a corpus.

    `examples` hold it; `pieces` is the number of tokens that it would fall into.
    """

    text: str
    examples: int
    pieces: int

    def __str__(self) -> str:
        """As the plan says it."""
        return f"{self.text} (in {self.examples} examples, else {self.pieces} tokens)"


def find_markers(
    examples: Iterable[Example], tokenize: Callable[[str], list[str]], known: Iterable[str]
) -> list[Marker]:
    """Finds the markers of the training examples, the most frequent first.

    Args:
        examples: Dialogues and summaries are searched.
        tokenize: Cuts a text into tokens, without new ones.
        known: Tokens of the vocabulary, which need not be added.
    """
    seen: Counter[str] = Counter()
    for example in examples:
        texts = (example.dialogue, *example.summaries)
        seen.update({mark for text in texts for mark in MASK.findall(text)})
    known = set(known)
    frequent = [
        (text, count)
        for text, count in sorted(seen.items(), key=lambda item: (-item[1], item[0]))
        if count >= FEWEST and text not in known
    ]
    return [Marker(text, count, len(tokenize(text))) for text, count in frequent[:MOST]]
