"""What each language says about the findings: the functions of `en` and of `ko`, by one type."""

from typing import Protocol

from analysis.findings.facts import Certainty, Comparison, Finding, Findings, Limit
from analysis.words import en, ko
from analysis.words.texts import Language


class Words(Protocol):
    """Turns facts into plain text; decides nothing, and computes no more than a ratio."""

    def aim_title(self, key: str, /) -> str:
        """What an aim is called: "Fastest"."""

    def aim_unit(self, key: str, /) -> str:
        """The unit of the column that measures an aim: "optimizer steps/s"."""

    def certainty(self, value: Certainty, /) -> str:
        """How sure a choice is, for a cell of a table."""

    def facets(self, comparison: Comparison, /) -> str:
        """What sets a comparison apart; "" where there is one comparison."""

    def answer(self, comparison: Comparison, /) -> tuple[str, ...]:
        """What to use, in numbers; every second part is to stand out."""

    def unfinished(self, count: int, /) -> str:
        """That runs of a sweep are to be finished, before the command that does it."""

    def cause(self, text: str, /) -> str | None:
        """Why a run ended; None where only the record says it."""

    def trainings(self, finding: Finding, /) -> str:
        """Which of several trainings came out best."""

    def notes(self, finding: Finding, /) -> list[str]:
        """Which settings and runs do not count for an aim, and why."""

    def details(self, finding: Finding, /) -> list[str]:
        """How far the data tell the choice from the others, with intervals and p-values."""

    def in_one_sentence(self, finding: Finding, /) -> str:
        """The choice and its numbers, or why there is none."""

    def reason(self, finding: Finding, /) -> str:
        """All about one aim: which setting, by how much, how sure."""

    def more_seeds(self, finding: Finding, /) -> str:
        """What would decide an aim; "" where that is not known or it is decided."""

    def decisions(self, comparison: Comparison, /) -> list[str]:
        """What follows beyond the single aims, a sentence or two each."""

    def limit(self, found: Limit, /) -> str:
        """One thing that limits what the runs can show."""

    def limits(self, findings: Findings, /) -> list[str]:
        """All of them."""

    def duration(self, seconds: float, /) -> str:
        """A time as a person says it."""


WORDS: dict[Language, Words] = {"en": en, "ko": ko}
