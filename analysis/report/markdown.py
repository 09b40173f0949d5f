"""Renders a report to Markdown. What is not ours is escaped, so that it reads as it was written."""

import re
from collections.abc import Sequence
from html import escape

from analysis.report.document import (
    Block,
    Bullets,
    Code,
    Details,
    Document,
    Figure,
    Inline,
    Paragraph,
    Strong,
    Table,
    Text,
    plain,
)


def render(document: Document) -> str:
    """Writes the whole report."""
    parts = [f"# {_text(document.title)}"]
    for section in document.sections:
        parts += [f"## {_text(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _text(text)
        case Bullets(items):
            return "\n".join(f"- {_text(item)}" for item in items)
        case Code(text, language):
            # A fence is longer than any that the text holds.
            longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}{language}\n{text}\n{fence}"
        case Table():
            return _table(block)
        case Figure(name, title, caption):
            return f"![{_text(title)}]({name}.png)\n\n**{_text(title)}.** {_text(caption)}"
        case Details(summary, blocks):
            inner = "\n\n".join(map(_block, blocks))
            summary_html = escape(_one_line(plain(summary)))
            return f"<details>\n<summary>{summary_html}</summary>\n\n{inner}\n\n</details>"


def _table(table: Table) -> str:
    rows = [
        [
            f"**{_text(cell)}**" if (row, place) in table.best else _text(cell)
            for place, cell in enumerate(cells)
        ]
        for row, cells in enumerate(table.rows)
    ]
    rule = ["---:" if place in table.numeric else "---" for place in range(len(table.headings))]
    lines: list[Sequence[str]] = [[_text(heading) for heading in table.headings], rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: Text) -> str:
    spans = (text,) if isinstance(text, str) else text
    return "".join(map(_span, spans))


def _span(span: str | Strong | Inline) -> str:
    match span:
        case Strong(text):
            return f"**{_escape(text)}**"
        case Inline(text):
            return _inline(text)
        case _:
            return _escape(span)


def _escape(text: str) -> str:
    """Makes every character stand for itself, on one line."""
    text = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    # An underscore within a word and a bracket without a target are read as they are.
    return re.sub(
        r"([\\`*~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|^\s*[#>+-](?=\s))", r"\\\1", text
    )


def _inline(text: str) -> str:
    """Code, in as many backticks as it takes; a bar would end a cell of a table."""
    text = " ".join(text.split())
    if "|" in text or not text:
        return _escape(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _one_line(text: str) -> str:
    """Makes all white space single spaces, those that join a span to its neighbours included."""
    return re.sub(r"\s+", " ", text)
