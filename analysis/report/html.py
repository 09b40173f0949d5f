"""Renders a report to one HTML file that asks nothing of any other file or host.

The page is static/: a template that escapes everything, a style sheet and the script that
draws the charts. A content security policy lets no other script run.
"""

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.report import document
from analysis.report.document import Document, Inline, Strong, Text

STATIC = Path(__file__).parent / "static"


def render(report: Document) -> str:
    """Writes the whole page."""
    environment = Environment(
        loader=FileSystemLoader(STATIC),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    environment.filters["kind"] = lambda block: type(block).__name__
    script = (STATIC / "report.js").read_text(encoding="utf-8")
    blocks = [block for section in report.sections for block in section.blocks]
    drawn = {
        block.name: [chart_data(chart) for chart in block.charts]
        for block in document.blocks_of(blocks)
        if isinstance(block, document.Figure)
    }
    return environment.get_template("report.html.jinja").render(
        report=report,
        # Both are our own files: the only parts of the page that are not escaped.
        style=Markup((STATIC / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={"charts": drawn, "words": report.words},
    )


def inline(text: Text) -> Markup:
    """A text with its spans as elements, escaped."""
    spans = (text,) if isinstance(text, str) else text
    return Markup("").join(
        Markup("<strong>{}</strong>").format(span.text)
        if isinstance(span, Strong)
        else Markup("<code>{}</code>").format(span.text)
        if isinstance(span, Inline)
        else span
        for span in spans
    )


def chart_data(value: Any) -> Any:
    """What the script needs to draw a chart: without what is empty, in the digits of a screen."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__} | {
            name: chart_data(content)
            for name, content in fields.items()
            if content is not None and content is not False and content not in ("", ())
        }
    if isinstance(value, tuple):
        return [chart_data(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
