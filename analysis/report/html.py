"""Renders a report to one HTML file that asks nothing of any other file or host.

The page is static/: a template that escapes everything, a style sheet, and a short script for the
table of the runs. The charts are the drawings of `figures`, as images within the page. A content
security policy lets no other script run.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.document import Document, Inline, Strong, Text

STATIC = Path(__file__).parent / "static"


def render(report: Document, pictures: Mapping[str, Sequence[bytes]]) -> str:
    """Writes the whole page.

    Args:
        report: What it says.
        pictures: For each figure an SVG for each of its charts.
    """
    environment = Environment(
        loader=FileSystemLoader(STATIC),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    environment.filters["unbroken"] = unbroken
    environment.filters["kind"] = lambda block: type(block).__name__
    script = (STATIC / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.jinja").render(
        report=report,
        pictures={
            name: [base64.b64encode(one).decode() for one in drawn]
            for name, drawn in pictures.items()
        },
        # Both are our own files: the only parts of the page that are not escaped.
        style=Markup((STATIC / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={"words": report.words},
    )


def unbroken(text: str) -> str:
    """A text whose pairs, such as "(16 × 4)", stay on one line."""
    return text.replace(" × ", "\xa0×\xa0").replace(" %", "\xa0%")


def inline(text: Text) -> Markup:
    """A text with its spans as elements, escaped."""
    spans = (text,) if isinstance(text, str) else text
    return Markup("").join(
        Markup("<strong>{}</strong>").format(unbroken(span.text))
        if isinstance(span, Strong)
        else Markup("<code>{}</code>").format(span.text)
        if isinstance(span, Inline)
        else unbroken(span)
        for span in spans
    )
