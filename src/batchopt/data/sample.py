"""Generates a dialogue-summarisation corpus, Korean and English, from a seed.

Every example has facts of its own (a domain and the values of its slots), told in words drawn from
`sample_texts`. So no dialogue of one split is in the other, not even in other words. Lengths have
the long tail of real dialogues: a request takes four turns, and a log-normal number of asides is
added.

The same seed gives the same corpus under every version of Python: only the method `random()` of
`random.Random` is used, since Python guarantees its sequence.
Source: https://docs.python.org/3/library/random.html#notes-on-reproducibility
"""

import math
import random
import re
from collections.abc import Sequence
from typing import TypeVar

from batchopt.data import Corpus, Example
from batchopt.data.sample_texts import TEXTS, Domain, Exchange, Texts, Turn
from batchopt.errors import RequestError

MOST_ASIDES = 6
"""The most asides in a dialogue."""

_T = TypeVar("_T")

_ALTERNATIVES = re.compile(r"\[([^]]*)]")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")
_PARTICLE = re.compile(
    r"([가-힣0-9])(#?)(?:(이)\(가\)|(은)\(는\)|(을)\(를\)|(과)\(와\)|(이면)\(면\)"
    r"|(이에요)\(예요\)|\((으)\)로)"
)
_AFTER_VOWEL = {
    "이": "가",
    "은": "는",
    "을": "를",
    "과": "와",
    "이면": "면",
    "이에요": "예요",
}
_DIGITS = "영일이삼사오육칠팔구"
_RIEUL = 8
"""Number of ㄹ among the final consonants of Hangul syllables in Unicode; 0 is none."""


def generate(*, language: str, train_examples: int, validation_examples: int, seed: int) -> Corpus:
    """Generates both splits; language is "ko", "en", or "mixed" (the two in turn).

    Raises:
        RequestError: There are fewer different facts than examples.
    """
    rng = _Random(seed)
    count = train_examples + validation_examples
    kinds = [
        (code, name)
        for name in TEXTS["en"].domains
        for code in (["ko", "en"] if language == "mixed" else [language])
    ]
    smallest = min(_facts(TEXTS[code].domains[name]) for code, name in kinds)
    if count > len(kinds) * smallest:
        raise RequestError(
            f"data.train_examples is {train_examples}; together with data.validation_examples "
            f"({validation_examples}) it must be {len(kinds) * smallest} or less for "
            f"data.language={language}, since no dialogue is generated twice"
        )
    rounds = -(-count // len(kinds))
    facts = [rng.distinct(_facts(TEXTS[code].domains[name]), rounds) for code, name in kinds]
    examples = []
    for number in range(count):
        turn, kind = divmod(number, len(kinds))
        code, name = kinds[kind]
        dialogue, summary = _tell(TEXTS[code], TEXTS[code].domains[name], facts[kind][turn], rng)
        examples.append(Example(f"{code}-{name}-{number}", dialogue, (summary,)))
    return Corpus(tuple(examples[:train_examples]), tuple(examples[train_examples:]))


def attach_particles(text: str) -> str:
    """Replaces 이(가), 은(는), 을(를), (으)로 and the like by the form that fits the sound before.

    Digits are read in Sino-Korean; the # that closes a speaker marker is passed over, so
    `#Person1#은(는)` becomes `#Person1#은` and `#Person2#은(는)` becomes `#Person2#는`.
    """

    def attach(match: re.Match[str]) -> str:
        last, closing = match[1], match[2]
        syllable = _DIGITS[int(last)] if last.isdigit() else last
        final = (ord(syllable) - ord("가")) % 28
        form = match[match.lastindex or 0]
        if form == "으":
            particle = "로" if final in (0, _RIEUL) else "으로"
        else:
            particle = form if final else _AFTER_VOWEL[form]
        return last + closing + particle

    return _PARTICLE.sub(attach, text)


class _Random:
    """Random draws made from `random.Random.random` alone."""

    def __init__(self, seed: int) -> None:
        # A text, since Random treats -1 and 1 as the same seed.
        self._random = random.Random(str(seed)).random

    def below(self, bound: int) -> int:
        return int(self._random() * bound)

    def choice(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def distinct(self, population: int, count: int) -> list[int]:
        """Draws `count` different numbers below `population`: a shuffle that stops early."""
        moved: dict[int, int] = {}
        drawn = []
        for last in reversed(range(population - count, population)):
            at = self.below(last + 1)
            drawn.append(moved.get(at, at))
            moved[at] = moved.get(last, last)
        return drawn

    def sample(self, items: Sequence[_T], count: int) -> list[_T]:
        return [items[at] for at in self.distinct(len(items), count)]

    def log_normal(self, median: float, sigma: float) -> float:
        # The sum of twelve uniform numbers is nearly normal, with a variance of 1.
        return median * math.exp(sigma * (sum(self._random() for _ in range(12)) - 6))


def _facts(domain: Domain) -> int:
    """The number of combinations of slot values of a domain."""
    return math.prod(len(values) for values in domain.slots.values())


def _tell(texts: Texts, domain: Domain, facts: int, rng: _Random) -> tuple[str, str]:
    """Makes the dialogue and the summary for one combination of slot values."""
    slots = {}
    for slot, values in domain.slots.items():
        facts, value = divmod(facts, len(values))
        slots[slot] = values[value]

    def say(phrasings: Sequence[str], **speakers: str) -> str:
        text = _ALTERNATIVES.sub(
            lambda match: rng.choice(match[1].split("|")), rng.choice(phrasings)
        )
        text = attach_particles(text.format_map(slots | speakers))
        return _SENTENCE_START.sub(lambda match: match[0].upper(), text)

    asides = rng.sample(
        (*texts.small_talk, *texts.interruptions, *domain.questions, *texts.afterthoughts),
        min(int(rng.log_normal(median=0.6, sigma=1.2)), MOST_ASIDES),
    )

    def drawn_from(exchanges: tuple[Exchange, ...]) -> list[Turn]:
        return [turn for exchange in asides if exchange in exchanges for turn in exchange]

    opening = rng.choice(((), (), (domain.welcome,), (texts.greeting, domain.welcome)))
    turns = (
        *opening,
        *drawn_from(texts.small_talk),
        *domain.request[:2],
        *drawn_from(texts.interruptions),
        *domain.request[2:],
        *drawn_from(domain.questions),
        *drawn_from(texts.afterthoughts),
        *rng.choice(((), (), (), texts.goodbye)),
    )
    # The asker is #Person1# unless the helper speaks first; from then on they take turns.
    dialogue = "\n".join(
        f"#Person{number % 2 + 1}#: {say(turn)}" for number, turn in enumerate(turns)
    )
    helper_begins = len(opening) == 1
    asker, helper = ("#Person2#", "#Person1#") if helper_begins else ("#Person1#", "#Person2#")
    return dialogue, say(domain.summaries, asker=asker, helper=helper)
