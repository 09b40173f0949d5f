"""Draws the charts and the results on paper: one column of print for each chart, 3.3 inches.

Nothing here reads a file, decides what is drawn or keeps state in pyplot, and every text is drawn
as it stands (no mathematics mode). The same charts give the same bytes.
"""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.report import document, fonts
from analysis.report.charts import BarChart, Chart, Look, Point, Series, XYChart
from analysis.words import texts
from analysis.words.texts import Language

COLUMN_INCHES = 3.4
PLANE_INCHES = 2.3
"""Height of a chart of points or lines, without the legend."""
LINE_INCHES = 0.14
"""Height of a line of text."""
DPI = 300

LINES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.2, 1, 1.2)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<", ">")
PART_COLOURS = ("#d9d9d9", "#a6a6a6", "#6f6f6f", "#3a3a3a")
"""Greys, since a colour means a preset."""
MUTED = "0.35"
BEST = "#cde6d5"
MAX_ROWS = 60
"""Of the drawn table: more would not be read, and cannot be drawn without end."""


def draw_all(report: document.Document, formats: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Draws every figure of a report, and the results as a table; returns the files by name."""
    language = report.language
    blocks = [block for section in report.sections for block in section.blocks]
    with style():
        figures = {}
        for block in document.blocks_of(blocks):
            if isinstance(block, document.Figure):
                figures[block.name] = draw_figure(block.charts, language)
            elif isinstance(block, document.Table) and block.sortable:
                figures["summary_table"] = draw_summary(block, language)
        return {
            f"{name}.{ending}": _save(figure, ending)
            for name, figure in figures.items()
            for ending in formats
        }


@contextmanager
def style() -> Iterator[None]:
    """Draws in seaborn's style, in the sizes of print, with a font that has Hangul."""
    settings: Any = {
        **sns.axes_style("ticks"),
        "font.family": fonts.families(),
        "font.size": 7,
        "axes.titlesize": 8,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 7,
        "axes.linewidth": 0.6,
        "axes.edgecolor": "0.5",
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "grid.color": "0.92",
        "grid.linewidth": 0.5,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "legend.fontsize": 6.5,
        "legend.frameon": False,
        "lines.markersize": 5,
        "pdf.fonttype": 42,  # text stays text, as journals ask
        "svg.hashsalt": "batchopt",
        "text.parse_math": False,
    }
    with fonts.quiet_font_search(), mpl.rc_context(settings):
        yield


def draw_figure(charts: Sequence[Chart], language: Language) -> Figure:
    """Draws charts beside each other, two in a row, over one legend."""
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    figure = _new_figure(COLUMN_INCHES * columns, 1)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, chart in zip(axes, charts, strict=False):
        ax.set_title(chart.title)
        match chart:
            case XYChart():
                draw_plane(ax, chart, language)
            case BarChart():
                draw_bars(ax, chart)
    for ax in list(axes)[len(charts) :]:
        ax.axis("off")
    handles = _handles(charts, language)
    widest = max((_text_width(figure, str(handle.get_label())) for handle in handles), default=1.0)
    in_a_row = max(1, min(len(handles), int(COLUMN_INCHES * columns / (widest + 0.42))))
    lines = -(-len(handles) // in_a_row)
    height = max(map(_height, charts)) * rows + LINE_INCHES * (lines + 0.5)
    figure.set_figheight(height)
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=in_a_row,
            handlelength=2.2,
            columnspacing=1.2,
            labelspacing=0.35,
        )
    return figure


def draw_plane(ax: Axes, chart: XYChart, language: Language = "en") -> Axes:
    """Draws points with their ranges, or lines with bands."""
    ax.set(xlabel=chart.x, ylabel=chart.y)
    for place, series in enumerate(chart.series):
        if chart.lines:
            # Where curves may coincide, later ones are thinner, so that all are seen.
            thinner = 1.7 * (1 - place / max(1, len(chart.series) - 1))
            _draw_line(ax, series, 0.9 + thinner if chart.coincide else 1.1)
        else:
            _draw_faint(ax, [point for point in series.points if point.faint], series.look)
            for point in series.points:
                if not point.faint:
                    _draw_point(ax, point, series.look)
        for x, y in series.ends:
            ax.plot(x, y, "x", color=series.look.colour, markersize=6, markeredgewidth=1.6)
    if chart.level:
        ax.axhline(chart.level[0], color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
    if not chart.series:
        ax.set(xticks=[], yticks=[])
        ax.text(
            0.5, 0.45, texts.NOT_MEASURED.say(language), transform=ax.transAxes,
            ha="center", color=MUTED,
        )  # fmt: skip
    if not chart.lines:
        ax.margins(0.12, 0.14)
    if chart.failed:
        _draw_failed(ax, chart.failed, language)
    return ax


def draw_bars(ax: Axes, chart: BarChart) -> Axes:
    """Draws stacked bars, the first on top."""
    ax.set(xlabel=chart.x)
    ax.grid(visible=False, axis="y")
    for row, bar in enumerate(chart.bars):
        left = 0.0
        for part, value in enumerate(bar.values):
            single = len(chart.parts) == 1
            ax.barh(
                row,
                value,
                left=left,
                height=0.7,
                color=bar.look.colour if single else PART_COLOURS[part % len(PART_COLOURS)],
                edgecolor="white",
                linewidth=0.4,
                hatch="////" if bar.hollow else None,
            )
            left += value
    _name_rows(ax, [bar.name for bar in chart.bars])
    ax.set_xlim(left=0)
    return ax


def draw_summary(table: document.Table, language: Language) -> Figure:
    """Draws the results with the best value of each column marked."""
    figure = _new_figure(1, 1)
    rows = table.rows[:MAX_ROWS]
    cells = [[document.plain(cell) for cell in row] for row in rows]
    widths = [
        0.14
        + max(
            _text_width(figure, line, bold=text is heading)
            for text in (heading, *column)
            for line in text.split("\n")
        )
        for heading, column in zip(table.headings, zip(*cells, strict=True), strict=True)
    ]
    edges = [sum(widths[:place]) for place in range(len(widths) + 1)]
    notes = [(texts.TABLE_NOTE if table.best else texts.TABLE_NO_NOTE).say(language)]
    if len(rows) < len(table.rows):
        notes.append(texts.TABLE_CUT.say(language, shown=len(rows), all=len(table.rows)))
    note = " ".join(notes)
    width = max(edges[-1], _text_width(figure, note))
    figure.set_size_inches(width + 0.1, 0.75 + 0.19 * len(rows))
    ax = figure.add_subplot()
    ax.set(xlim=(0, width), ylim=(len(rows), -1.9))
    ax.axis("off")
    for place, heading in enumerate(table.headings):
        x, side = _anchor(edges, place, table)
        ax.text(x, -0.25, heading, ha=side, va="bottom", weight="bold", linespacing=1.2)
    for row, own in enumerate(cells):
        for place, text in enumerate(own):
            marked = (row, place) in table.best
            if marked:
                ax.fill_between(
                    [edges[place] + 0.03, edges[place + 1] - 0.03], row + 0.06, row + 0.94,
                    color=BEST, linewidth=0,
                )  # fmt: skip
            x, side = _anchor(edges, place, table)
            ax.text(
                x, row + 0.5, text or "–", ha=side, va="center_baseline",
                weight="bold" if marked else "normal",
                color=MUTED if row in table.muted or not text else "black",
            )  # fmt: skip
    ax.hlines([0, len(rows)], 0, edges[-1], color="0.2", linewidth=0.8)
    figure.supxlabel(note, fontsize=6.5, color=MUTED, x=0.01, ha="left")
    return figure


def _new_figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # lets texts be measured before the figure is saved
    return figure


def _height(chart: Chart) -> float:
    """Inches that a chart wants, with its title and axis."""
    match chart:
        case BarChart():
            names = [bar.name for bar in chart.bars]
        case XYChart():
            return PLANE_INCHES
    return 0.6 + sum(0.09 + 0.12 * len(_wrap(name).split("\n")) for name in names)


def _draw_line(ax: Axes, series: Series, width: float) -> None:
    look = series.look
    xs = [point.x for point in series.points]
    ax.plot(
        xs,
        [point.y for point in series.points],
        color=look.colour,
        linestyle=LINES[look.line % len(LINES)],
        linewidth=width,
        marker=MARKERS[look.marker % len(MARKERS)] if len(xs) < 16 else None,
        markersize=width + 2,
        markeredgewidth=0,
    )
    ranged = [point for point in series.points if point.y_range]
    if ranged:
        ax.fill_between(
            [point.x for point in ranged],
            [point.y_range[0] for point in ranged if point.y_range],
            [point.y_range[1] for point in ranged if point.y_range],
            color=look.colour,
            alpha=0.16,
            linewidth=0,
        )


def _draw_faint(ax: Axes, points: Sequence[Point], look: Look) -> None:
    """Draws single runs, all at once: there may be thousands."""
    for hollow in (False, True):
        chosen = [(point.x, point.y) for point in points if point.hollow == hollow]
        if chosen:
            ax.plot(
                *zip(*chosen, strict=True), MARKERS[look.marker % len(MARKERS)], color=look.colour,
                alpha=0.6, markersize=2.6, markerfacecolor="white" if hollow else look.colour,
                markeredgewidth=0.6,
            )  # fmt: skip


def _draw_point(ax: Axes, point: Point, look: Look) -> None:
    if point.x_range:
        ax.plot(point.x_range, [point.y, point.y], color=look.colour, linewidth=1)
    if point.y_range:
        ax.plot([point.x, point.x], point.y_range, color=look.colour, linewidth=1)
    ax.plot(
        point.x, point.y, MARKERS[look.marker % len(MARKERS)], color=look.colour, markersize=6,
        markerfacecolor="white" if point.hollow else look.colour,
        markeredgecolor=look.colour if point.hollow else "white",
        markeredgewidth=1.2 if point.hollow else 0.6, zorder=3,
    )  # fmt: skip


def _draw_failed(ax: Axes, failed: Sequence[tuple[str, Look]], language: Language) -> None:
    """Puts a cross for each setting into a band along the upper edge."""
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
    ax.set_ylim(low, high + (high - low) * 0.16)
    ax.axhspan(high + (high - low) * 0.02, high + (high - low) * 0.16, color="0.94", linewidth=0)
    ax.text(
        0.015, 0.935, texts.OUT_OF_MEMORY.say(language), transform=ax.transAxes, va="center",
        fontsize=6.5, color=MUTED,
    )  # fmt: skip
    start = 0.36
    for place, (_, look) in enumerate(failed):
        ax.plot(
            start + (0.98 - start) * (place + 0.5) / len(failed), 0.935, "x", color=look.colour,
            transform=ax.transAxes, markersize=5.5, markeredgewidth=1.8,
        )  # fmt: skip


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [_wrap(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _wrap(name: str) -> str:
    return "\n".join(textwrap.wrap(name, 26)) or name


def _handles(charts: Sequence[Chart], language: Language) -> list[Any]:
    """The legend of charts that share their settings."""
    handles: dict[str, Any] = {}
    for chart in charts:
        if isinstance(chart, BarChart) and len(chart.parts) > 1:
            handles |= {
                part: Patch(facecolor=PART_COLOURS[place % len(PART_COLOURS)], label=part)
                for place, part in enumerate(chart.parts)
            }
        elif isinstance(chart, XYChart):
            for series in chart.series:
                if chart.lines or series.name not in handles:
                    handles[series.name] = _key(series.look, series.name, chart.lines)
    planes = [chart for chart in charts if isinstance(chart, XYChart)]
    for name, look in [item for chart in planes for item in chart.failed]:
        text = f"{name}: {texts.OUT_OF_MEMORY.say(language)}"
        handles[text] = Line2D(
            [], [], linestyle="", marker="x", color=look.colour, markeredgewidth=1.8, label=text
        )
    keys = {
        texts.UNTRUSTED_KEY: any(
            point.hollow for chart in planes for one in chart.series for point in one.points
        ),
        texts.ENDED_KEY: any(one.ends for chart in planes for one in chart.series),
    }
    for key, used in keys.items():
        if used:
            marker = "o" if key is texts.UNTRUSTED_KEY else "x"
            text = key.say(language)
            handles[text] = Line2D(
                [], [], linestyle="", marker=marker, color="0.4", markerfacecolor="white",
                label=text,
            )  # fmt: skip
    for chart in planes:
        if chart.level:
            handles[chart.level[1]] = Line2D(
                [], [], color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)), label=chart.level[1]
            )
    return list(handles.values())


def _key(look: Look, label: str, lines: bool) -> Line2D:
    return Line2D(
        [],
        [],
        color=look.colour,
        linestyle=LINES[look.line % len(LINES)] if lines else "",
        marker=MARKERS[look.marker % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        label=label,
    )


def _text_width(figure: Figure, text: str, bold: bool = False) -> float:
    """Inches that a line of text takes."""
    drawn = figure.text(0, 0, text, weight="bold" if bold else "normal")
    width = drawn.get_window_extent().width / figure.dpi
    drawn.remove()
    return float(width)


def _anchor(edges: Sequence[float], place: int, table: document.Table) -> tuple[float, str]:
    """Where the text of a column stands: words from the left, numbers from the right."""
    if place in table.numeric:
        return edges[place + 1] - 0.07, "right"
    return edges[place] + 0.07, "left"


def _save(figure: Figure, ending: str) -> bytes:
    buffer = io.BytesIO()
    # No date of the moment: the same runs give the same bytes.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    figure.savefig(buffer, format=ending, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
