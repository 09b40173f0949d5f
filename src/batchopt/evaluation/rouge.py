"""ROUGE-1, ROUGE-2 and ROUGE-L F1 with a tokenizer that suits the language of the references.

This module owns what counts as a word. The n-grams and the longest common subsequence are
rouge_score's own, so English scores are comparable with published ones. The `evaluate.Metric`
over it is in `batchopt.rouge_metric`, apart because importing `evaluate` takes seconds.

Conventions:

- Texts are NFC-normalised and lower-cased before they are cut into tokens.
- A newline is a space: ROUGE-L is the longest common subsequence of the whole texts. rougeLsum,
  which would take it line by line, is not used.
- A text without tokens scores 0, also against itself; so does ROUGE-2 of a one-token text.
- A corpus' score is the plain mean of its examples. rouge_score's bootstrap is unseeded.

Source: Lin 2004, https://aclanthology.org/W04-1013/
"""

import functools
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple

from batchopt.errors import RequestError

_MARKER = re.compile(r"#\w+#")
"""A speaker, place or other name that the corpus has masked, such as `#Person1#`."""

_STRAY_SHARE = 0.001
"""Up to this share of the letters, foreign ones (a café, a Müller) do not change the choice."""

_UNSPACED_SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN"}
"""First words of the Unicode names of scripts that put no space between words."""


def choose_tokenizer(name: str, references: Iterable[str]) -> str:
    """Resolves `auto` to the tokenizer that suits the references; other names stay as they are.

    The first rule that holds decides, so a mixed corpus counts as its hardest script:

    1. any Hangul: `kiwi`, which reads English too;
    2. at most 1 letter in 1000 is not ASCII: `rouge_score`, the standard for English;
    3. more than 1 letter in 1000 is of a script without spaces (Han, kana, Thai, ...): `character`;
    4. otherwise (German, Russian, Hindi, ...): `whitespace`.

    Raises:
        RequestError: The tokenizer is kiwi and kiwipiepy is not installed.
    """
    resolved = _suitable_tokenizer(references) if name == "auto" else name
    if resolved == "kiwi" and importlib.util.find_spec("kiwipiepy") is None:
        found = " and found Hangul in the references" if name == "auto" else ""
        raise RequestError(
            f"metric.tokenizer ({name}){found}: kiwi needs kiwipiepy, which is not installed; "
            "pip install 'batchopt[ko]', or set metric.tokenizer=character"
        )
    return resolved


def _suitable_tokenizer(references: Iterable[str]) -> str:
    characters: Counter[str] = Counter()
    for text in references:
        characters.update(unicodedata.normalize("NFC", text))
    letters = non_ascii = unspaced = 0
    for character, count in characters.items():
        if not character.isalpha():
            continue
        script = unicodedata.name(character, "").split(" ")[0]
        if script == "HANGUL":
            return "kiwi"
        letters += count
        non_ascii += count * (not character.isascii())
        unspaced += count * (script in _UNSPACED_SCRIPTS)
    if non_ascii <= letters * _STRAY_SHARE:
        return "rouge_score"
    return "character" if unspaced > letters * _STRAY_SHARE else "whitespace"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """What ROUGE counts as a word. `name` is written beside every score."""

    name: str
    split: Callable[[str], list[str]]
    """Cuts a normalised, lower-cased text."""

    def tokenize(self, text: str) -> list[str]:
        """Normalises a text and cuts it into tokens."""
        return self.split(unicodedata.normalize("NFC", text).lower())


def tokenizer_label(name: str, *, use_stemmer: bool = False) -> str:
    """What is written beside every score.

    Raises:
        RequestError: `use_stemmer` with a tokenizer that has none.
    """
    if use_stemmer and name != "rouge_score":
        raise RequestError(
            f"metric.use_stemmer (true) works with the tokenizer rouge_score, not with {name}; "
            "set metric.use_stemmer=false, or metric.tokenizer=rouge_score for English"
        )
    return f"{name}+stemmer" if use_stemmer else name


def make_tokenizer(name: str, *, use_stemmer: bool = False) -> Tokenizer:
    """Makes a tokenizer from a name that `choose_tokenizer` has resolved.

    - `kiwi`: the forms of Kiwi's Korean morphemes.
    - `whitespace`: words without the punctuation at their edges.
    - `character`: every letter, combining mark and digit.
    - `rouge_score`: runs of a-z and 0-9; every other letter is lost.

    The first three keep a marker such as `#Person1#` as one token, also with a particle after it,
    and lose what has neither letter nor digit (punctuation, symbols, emoji).

    Args:
        name: One of the four.
        use_stemmer: Porter stemming of English words.

    Raises:
        RequestError: As `tokenizer_label`.
    """
    label = tokenizer_label(name, use_stemmer=use_stemmer)
    match name:
        case "kiwi":
            return Tokenizer(label, _kiwi_morphemes)
        case "whitespace":
            return Tokenizer(label, _words)
        case "character":
            return Tokenizer(label, _characters)
        case "rouge_score":
            from rouge_score.tokenizers import DefaultTokenizer

            return Tokenizer(label, DefaultTokenizer(use_stemmer).tokenize)
    raise ValueError(f"no tokenizer is called {name!r}")


def _is_word_character(character: str) -> bool:
    # Letters, marks, numbers. Marks are the vowels of Thai and Hindi, which \w would lose.
    return unicodedata.category(character)[0] in "LMN"


def _words(text: str) -> list[str]:
    words = _MARKER.sub(r" \g<0> ", text).split()
    stripped = (w.strip("".join(c for c in w if not _is_word_character(c))) for w in words)
    return [word for word in stripped if word]


def _characters(text: str) -> list[str]:
    tokens = re.findall(rf"{_MARKER.pattern}|\S", text)
    return [token for token in tokens if any(map(_is_word_character, token))]


def _kiwi_morphemes(text: str) -> list[str]:
    # A marker is a proper noun, so Kiwi sees the particle after it as one. (Cut off and analysed
    # alone, the 는 of `#Person1#는` becomes the verb 늘다.)
    morphemes = _kiwi().tokenize(
        text, pretokenized=lambda t: [(*match.span(), "NNP") for match in _MARKER.finditer(t)]
    )
    # Not by the tags of symbols: SW is also Kiwi's tag of kana, Cyrillic and ㅋㅋ.
    # SB numbers a list ("1.", "가.").
    return [m.form for m in morphemes if m.tag != "SB" and any(map(_is_word_character, m.form))]


@functools.cache
def _kiwi() -> Any:
    """Kiwi takes seconds to start, so a process has one, from the first text on."""
    from kiwipiepy import Kiwi

    # The default is a thread for every core, and the training has those.
    return Kiwi(num_workers=1)


class RougeScores(NamedTuple):
    """F1 scores from 0 to 1, of one example or the means of several."""

    rouge1_f1: float
    rouge2_f1: float
    rougeL_f1: float
    rouge_f1: float
    """Mean of the three."""


class Scorer:
    """Scores predictions against references, whose tokens it keeps for the next evaluation."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._reference_tokens: dict[str, list[str]] = {}

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[RougeScores]:
        """Scores each prediction against its references, of which there is at least one.

        Each ROUGE type takes the reference with the best F1, as rouge_score's `score_multi` does.
        """
        from rouge_score.rouge_scorer import RougeScorer

        known = self._reference_tokens
        for text in (text for texts in references for text in texts):
            if text not in known:
                known[text] = self.tokenizer.tokenize(text)
        tokens = known | {text: self.tokenizer.tokenize(text) for text in predictions}
        types = ("rouge1", "rouge2", "rougeL")
        # rouge_score asks for the tokens of a text; these are made already.
        scorer = RougeScorer(types, tokenizer=SimpleNamespace(tokenize=tokens.__getitem__))

        scores = []
        for prediction, texts in zip(predictions, references, strict=True):
            best = scorer.score_multi(texts, prediction)
            one, two, longest = (float(best[kind].fmeasure) for kind in types)
            scores.append(RougeScores(one, two, longest, fmean((one, two, longest))))
        return scores


def mean_scores(scores: Sequence[RougeScores]) -> RougeScores:
    """Averages the scores of at least one example."""
    return RougeScores(*map(fmean, zip(*scores, strict=True)))
