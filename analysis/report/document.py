"""The structure of a report: sections of blocks. Markdown and HTML render the same document.

Texts are not escaped; the renderers (markdown, html) do that.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from analysis.report.charts import Chart
from analysis.words.texts import Language


@dataclass(frozen=True, slots=True)
class Strong:
    """Words that stand out."""

    text: str


@dataclass(frozen=True, slots=True)
class Inline:
    """Code, a path or a key within a sentence."""

    text: str


Span = str | Strong | Inline
Text = str | tuple[Span, ...]
"""A run of words; a tuple where some of them stand out."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences."""

    text: Text


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences in a list."""

    items: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines as they are: commands (language "sh") or a log (language "text")."""

    text: str
    language: str = "sh"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are read, row by row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    """Row and column of each marked cell."""
    muted: frozenset[int] = frozenset()
    """Rows that count less: of runs that did not complete."""
    numeric: frozenset[int] = frozenset()
    """Columns that are set to the right."""
    title: str = ""
    """What sets it apart from the other tables of its kind."""
    summary: bool = False
    """Whether summary_table.png shows it."""
    sortable: bool = False
    """Whether a reader may want to sort and filter it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An image file and the charts that it shows, which a screen can draw again."""

    name: str
    """Of the file, without its ending."""
    title: str
    caption: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks that only some readers want."""

    summary: Text
    blocks: "tuple[Block, ...]"


Block = Paragraph | Bullets | Code | Table | Figure | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the report."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    language: Language
    sections: tuple[Section, ...]
    words: Mapping[str, str]
    """What the page's own controls are called, by key."""


def plain(text: Text) -> str:
    """The words of a text alone."""
    spans = (text,) if isinstance(text, str) else text
    return "".join(span if isinstance(span, str) else span.text for span in spans)


def blocks_of(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yields blocks and those within them."""
    for block in blocks:
        yield block
        if isinstance(block, Details):
            yield from blocks_of(block.blocks)
