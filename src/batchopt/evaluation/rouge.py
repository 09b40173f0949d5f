"""ROUGE-1, ROUGE-2 and ROUGE-L F1 with a tokenizer that suits the language of the references.

This module defines what counts as a word. rouge_score computes the n-grams and the longest common
subsequence, so English scores are comparable with published ones. The `evaluate.Metric` over it is
in `rouge_metric`, a module of its own because importing `evaluate` takes seconds.

Conventions:

- Texts are NFC-normalised and lower-cased before they are split into tokens.
- A newline is a space: ROUGE-L is the longest common subsequence of the whole texts. rougeLsum,
  which takes it line by line, is not used.
- A text without tokens scores 0, also against itself; so does ROUGE-2 of a one-token text.
- The score of a corpus is the mean of its examples. The bootstrap of rouge_score has no seed.

Source: Lin 2004, https://aclanthology.org/W04-1013/
"""

import functools
import importlib.util
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple

from batchopt.data.markers import MASK
from batchopt.errors import RequestError

Spans = list[tuple[int, int]]
"""Begin and end of each mask in a text."""

_STRAY_SHARE = 0.001
"""Foreign letters up to this share of all (a café, a Müller) do not change the choice."""

_UNSPACED_SCRIPTS = {"CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN"}
"""First words of the Unicode names of scripts that put no space between words."""


def choose_tokenizer(name: str, references: Iterable[str]) -> str:
    """Resolves `auto` to the tokenizer that suits the references; returns other names unchanged.

    The first rule that applies decides, so a mixed corpus counts as its hardest script:

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
    """Splits texts into what ROUGE counts as words. `name` is written beside every score."""

    name: str
    split: Callable[[str, Spans], list[str]]
    """Splits a normalised, lower-cased text; each mask in it is one token."""

    def tokenize(self, text: str) -> list[str]:
        """Normalises a text and splits it into tokens."""
        return self.split(*_lower(unicodedata.normalize("NFC", text)))


def _lower(text: str) -> tuple[str, Spans]:
    """Lower-cases a text, which may change its length, and finds its masks before and after."""
    lowered, masks, end = "", [], 0
    for match in MASK.finditer(text):
        lowered += text[end : match.start()].lower()
        begin = len(lowered)
        lowered += match[0].lower()
        masks.append((begin, len(lowered)))
        end = match.end()
    return lowered + text[end:].lower(), masks


def tokenizer_label(name: str, *, use_stemmer: bool = False) -> str:
    """Returns the name that is written beside every score.

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

    A mask such as `#Person1#` or `[NAME]` is one token of each, and a particle after it another.
    The first three drop whatever has neither letter nor digit (punctuation, symbols, emoji).

    Args:
        name: One of the four.
        use_stemmer: Porter stemming of English words.

    Raises:
        RequestError: See `tokenizer_label`.
    """
    label = tokenizer_label(name, use_stemmer=use_stemmer)
    match name:
        case "kiwi":
            return Tokenizer(label, _kiwi_morphemes)
        case "whitespace":
            return Tokenizer(label, _around_masks(_words))
        case "character":
            return Tokenizer(label, _around_masks(_characters))
        case "rouge_score":
            from rouge_score.tokenizers import DefaultTokenizer

            return Tokenizer(label, _around_masks(DefaultTokenizer(use_stemmer).tokenize))
    raise ValueError(f"no tokenizer is called {name!r}")


def _is_word_character(character: str) -> bool:
    # Letters, marks, numbers. Marks are the vowels of Thai and Hindi, which \w would lose.
    return unicodedata.category(character)[0] in "LMN"


def _around_masks(split: Callable[[str], list[str]]) -> Callable[[str, Spans], list[str]]:
    """Makes a function that splits the texts between masks and keeps each mask as a token."""

    def split_all(text: str, masks: Spans) -> list[str]:
        tokens, end = [], 0
        for begin, after in masks:
            tokens += [*split(text[end:begin]), text[begin:after]]
            end = after
        return tokens + split(text[end:])

    return split_all


def _words(text: str) -> list[str]:
    words = text.split()
    stripped = (w.strip("".join(c for c in w if not _is_word_character(c))) for w in words)
    return [word for word in stripped if word]


def _characters(text: str) -> list[str]:
    return [character for character in text if _is_word_character(character)]


def _kiwi_morphemes(text: str, masks: Spans) -> list[str]:
    # A mask is a proper noun to Kiwi, so it sees the particle after it as one. (Split off and
    # analysed alone, the 는 of `#Person1#는` becomes the verb 늘다.)
    morphemes = _kiwi().tokenize(text, pretokenized=lambda _: [(*span, "NNP") for span in masks])
    # Not by the tags of symbols: SW is also the tag of kana, Cyrillic and ㅋㅋ in Kiwi.
    # SB numbers a list ("1.", "가.").
    return [m.form for m in morphemes if m.tag != "SB" and any(map(_is_word_character, m.form))]


@functools.cache
def _kiwi() -> Any:
    """The one Kiwi of the process, made at the first text: it takes seconds to start."""
    from kiwipiepy import Kiwi

    # One thread: by default Kiwi takes a thread for every core, and the training needs the cores.
    return Kiwi(num_workers=1)


class RougeScores(NamedTuple):
    """F1 scores from 0 to 1, of one example or the means of several."""

    rouge1_f1: float
    rouge2_f1: float
    rougeL_f1: float
    rouge_f1: float
    """Mean of the three."""


class Scorer:
    """Scores predictions against references; remembers the tokens of the references."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._reference_tokens: dict[str, list[str]] = {}

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[RougeScores]:
        """Scores each prediction against its references; each has at least one.

        Each ROUGE type takes the reference with the best F1, as rouge_score's `score_multi` does.
        """
        from rouge_score.rouge_scorer import RougeScorer

        known = self._reference_tokens
        for text in (text for texts in references for text in texts):
            if text not in known:
                known[text] = self.tokenizer.tokenize(text)
        tokens = known | {text: self.tokenizer.tokenize(text) for text in predictions}
        types = ("rouge1", "rouge2", "rougeL")
        # rouge_score asks for the tokens of each text; here they are looked up.
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
