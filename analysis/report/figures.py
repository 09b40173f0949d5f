"""Draws the charts and the results: one column of print for each chart, 3.4 inches.

Nothing here reads a file, decides what is drawn or keeps state in pyplot, and every text is drawn
as it stands (no mathematics mode). The same charts give the same bytes. The page shows the same
drawings as the image files, each chart alone and in larger letters.
"""

import io
import math
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from analysis.report import document, fonts
from analysis.report.charts import BarChart, Chart, Look, Point, Series, XYChart
from analysis.words import texts
from analysis.words.texts import Language

COLUMN_INCHES = 3.4
PLANE_INCHES = 2.3
"""Height of a chart of points or lines, without the legend."""
DPI = 300
PRINT_POINTS, PAGE_POINTS = 7.0, 9.5
"""Size of the letters on paper, and on a page that may be as narrow as a phone."""

LINES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.2, 1, 1.2)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
PART_COLOURS = ("#d9d9d9", "#a6a6a6", "#6f6f6f", "#3a3a3a")
"""Greys, since a colour means a preset."""
MUTED = "0.35"
BEST = "#cde6d5"
MAX_ROWS = 60
"""Of the drawn table: more would not be read, and cannot be drawn without end."""
LABEL_COLUMNS = 18
"""Of a label beside its point or line; a Hangul syllable takes two."""


def draw_all(report: document.Document, formats: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Draws every figure of a report, and the results as a table; returns the files by name."""
    blocks = [block for section in report.sections for block in section.blocks]
    with style():
        figures = {
            block.name: draw_figure(block.charts, report.language)
            for block in document.blocks_of(blocks)
            if isinstance(block, document.Figure)
        }
        tables = [one for one in blocks if isinstance(one, document.Table) and one.summary]
        figures["summary_table"] = draw_summary(tables, report.language)
        return {
            f"{name}.{ending}": _save(figure, ending)
            for name, figure in figures.items()
            for ending in formats
        }


def draw_page(report: document.Document) -> dict[str, list[bytes]]:
    """Draws every chart of a report alone, as SVG; returns them by the name of their figure."""
    blocks = [block for section in report.sections for block in section.blocks]
    with style(PAGE_POINTS):
        return {
            block.name: [
                _save(draw_figure([chart], report.language, titled=len(block.charts) > 1), "svg")
                for chart in block.charts
            ]
            for block in document.blocks_of(blocks)
            if isinstance(block, document.Figure)
        }


@contextmanager
def style(points: float = PRINT_POINTS) -> Iterator[None]:
    """Draws in seaborn's style, in letters of a size, with a font that has Hangul."""
    settings: Any = {
        **sns.axes_style("ticks"),
        "font.family": fonts.families(),
        "font.size": points,
        "axes.titlesize": points + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": points,
        "axes.linewidth": 0.6,
        "axes.edgecolor": "0.5",
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
        "grid.color": "0.92",
        "grid.linewidth": 0.5,
        "xtick.labelsize": points - 0.5,
        "ytick.labelsize": points - 0.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "legend.fontsize": points - 0.5,
        "legend.frameon": False,
        "lines.markersize": 5,
        "pdf.fonttype": 42,  # text stays text, as journals ask
        "svg.hashsalt": "batchopt",
        "text.parse_math": False,
    }
    with fonts.quiet_font_search(), mpl.rc_context(settings):
        yield


def draw_figure(charts: Sequence[Chart], language: Language, *, titled: bool = True) -> Figure:
    """Draws charts beside each other, two in a row, over the key of their signs."""
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    figure = _new_figure(COLUMN_INCHES * columns, 1)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, chart in zip(axes, charts, strict=False):
        failed = _failed_lines(chart, language)
        size = float(mpl.rcParams["font.size"])
        ax.set_title(chart.title if titled else "", pad=6 + 1.3 * size * len(failed))
        ax.annotate(
            "\n".join(failed), (0, 1), xytext=(0, 5), xycoords="axes fraction",
            textcoords="offset points", fontsize=size - 0.5, color=MUTED,
        )  # fmt: skip
        if isinstance(chart, XYChart):
            draw_plane(ax, chart, language)
        else:
            draw_bars(ax, chart)
    for ax in axes[len(charts) :]:
        ax.axis("off")
    handles = _handles(charts, language)
    widest = max((_text_width(figure, str(handle.get_label())) for handle in handles), default=1.0)
    in_a_row = max(1, min(len(handles), int(COLUMN_INCHES * columns / (widest + 0.42 * _scale()))))
    lines = -(-len(handles) // in_a_row)
    height = max(_height(chart, language) for chart in charts) * rows
    figure.set_figheight(height + 0.14 * _scale() * (lines + 0.5))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=in_a_row,
            handlelength=2.2,
            columnspacing=1.2,
            labelspacing=0.35,
        )
    # Labels lie where the axes end up: they are laid out first, and stay.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax, chart in zip(axes, charts, strict=False):
        if isinstance(chart, XYChart):
            (label_lines if chart.lines else label_points)(ax, chart)
    return figure


def draw_plane(ax: Axes, chart: XYChart, language: Language = "en") -> Axes:
    """Draws points with their ranges and a line through them, or lines with each run behind."""
    ax.set(xlabel=chart.x, ylabel=chart.y)
    for place, series in enumerate(chart.series):
        if chart.lines:
            # Where curves may coincide, later ones are thinner, so that all are seen.
            thinner = 2.4 * (1 - place / max(1, len(chart.series) - 1))
            _draw_line(ax, series, 0.9 + thinner if chart.coincide else 1.3)
        else:
            _draw_faint(ax, [point for point in series.points if point.faint], series.look)
            for point in series.points:
                if not point.faint:
                    _draw_point(ax, point, series.look)
        for x, y in series.ends:
            ax.plot(x, y, "x", color=series.look.colour, markersize=6, markeredgewidth=1.6)
    if not chart.lines:
        for family in dict.fromkeys(series.family for series in chart.series):
            joined = [one.points[-1] for one in chart.series if one.family == family]
            ax.plot(
                [point.x for point in joined],
                [point.y for point in joined],
                color="0.75",
                linewidth=0.8,
                zorder=1,
            )
        ax.margins(0.16, 0.16)
    if chart.level and chart.series:
        xs = [point.x for one in chart.series for point in one.points]
        ax.hlines(
            chart.level[0], min(xs), max(xs), color=MUTED, linewidth=0.7,
            linestyle=(0, (2, 2)), zorder=1,
        )  # fmt: skip
    if not chart.series:
        ax.set(xticks=[], yticks=[])
        ax.text(
            0.5, 0.45, texts.NOT_MEASURED.say(language), transform=ax.transAxes,
            ha="center", color=MUTED,
        )  # fmt: skip
    return ax


def label_points(ax: Axes, chart: XYChart) -> None:
    """Writes each setting's name beside its point, where it covers no other name or point."""
    pixels = ax.figure.dpi / 72
    frame = ax.get_window_extent()
    centres = [ax.transData.transform((one.points[-1].x, one.points[-1].y)) for one in chart.series]
    taken = [Bbox.from_bounds(x - 4 * pixels, y - 4 * pixels, 8 * pixels, 8 * pixels)
             for x, y in centres]  # fmt: skip
    for series, (x, y) in zip(chart.series, centres, strict=True):
        text = ax.annotate(
            _wrap(series.name, LABEL_COLUMNS), (series.points[-1].x, series.points[-1].y),
            xytext=(0, 0), textcoords="offset points", fontsize=mpl.rcParams["font.size"] - 0.5,
            linespacing=1.0,
        )  # fmt: skip
        box = text.get_window_extent()
        best: tuple[float, float, float, Bbox] | None = None
        for distance in (6, 10, 15, 21, 28, 36, 46, 58, 72, 90, 110, 130):
            for turn in range(16):
                angle = math.pi * turn / 8
                # The nearest corner or edge of the box looks at the point.
                left = x + distance * pixels * math.cos(angle)
                bottom = y + distance * pixels * math.sin(angle)
                left -= box.width * (1 - math.cos(angle)) / 2
                bottom -= box.height * (1 - math.sin(angle)) / 2
                place = Bbox.from_bounds(left, bottom, box.width, box.height)
                cost = sum(_overlap(place, other) for other in taken)
                cost += place.width * place.height - _overlap(place, frame)
                if best is None or cost < best[0] - 1e-9:
                    best = (cost, left, bottom, place)
            if best is not None and best[0] < 1:
                break
        assert best is not None
        _, left, bottom, place = best
        text.set_position(((left - x) / pixels, (bottom - y) / pixels))
        taken.append(place)
        near_x = min(max(x, place.x0), place.x1)
        near_y = min(max(y, place.y0), place.y1)
        if math.hypot(near_x - x, near_y - y) > 9 * pixels:
            ends = ax.transData.inverted().transform([(x, y), (near_x, near_y)])
            ax.plot(ends[:, 0], ends[:, 1], color="0.6", linewidth=0.5, zorder=1,
                    scalex=False, scaley=False)  # fmt: skip


def label_lines(ax: Axes, chart: XYChart) -> None:
    """Writes each setting's name at the end of its line; names that would touch move apart."""
    if not chart.series:
        return
    pixels = ax.figure.dpi / 72
    size = mpl.rcParams["font.size"] - 0.5
    low, high = ax.get_xlim()
    bottom, top = ax.get_ylim()
    names = [
        ax.text(0, 0, _wrap(one.name, LABEL_COLUMNS), fontsize=size, va="center", linespacing=1.0)
        for one in chart.series
    ]
    boxes = [text.get_window_extent() for text in names]
    frame = ax.get_window_extent()
    # The names stand within the axes, right of where the lines end.
    share = min(0.6, (max(box.width for box in boxes) + 14 * pixels) / frame.width)
    last = max(point.x for one in chart.series for point in one.points)
    ax.set_xticks([tick for tick in ax.get_xticks() if low <= tick <= high])
    ax.set_xlim(low, low + (max(last, high) - low) / (1 - share))
    ax.set_ylim(bottom, top)
    ends = [ax.transData.transform((one.points[-1].x, one.points[-1].y)) for one in chart.series]
    edge = ax.transData.transform((max(last, high), bottom))[0]
    heights = [box.height + 1 * pixels for box in boxes]
    # Lines that end at one height are named in the order of the batch.
    tall = max(heights)
    order = sorted(range(len(ends)), key=lambda place: (round(ends[place][1] / tall), place))
    middles = _spread([float(ends[place][1]) for place in order],
                      [heights[place] for place in order], frame.y0, frame.y1)  # fmt: skip
    inverse = ax.transData.inverted()
    for place, middle in zip(order, middles, strict=True):
        x, y = inverse.transform((edge + 10 * pixels, middle))
        names[place].set_position((x, y))
        corner = inverse.transform((edge + 8 * pixels, middle))
        series = chart.series[place]
        ax.plot([series.points[-1].x, corner[0]], [series.points[-1].y, corner[1]],
                color=series.look.colour, linewidth=0.5, alpha=0.7,
                scalex=False, scaley=False)  # fmt: skip


def _spread(
    wanted: Sequence[float], heights: Sequence[float], low: float, high: float
) -> list[float]:
    """Moves middles, in ascending order, just so far apart that boxes of heights fit.

    Boxes that touch form a stack round the mean of what they wanted (pool adjacent violators).
    """
    floors = [sum(heights[:place]) + height / 2 for place, height in enumerate(heights)]
    stacks: list[list[float]] = []
    for middle, floor in zip(wanted, floors, strict=True):
        stacks.append([middle - floor])
        while len(stacks) > 1 and fmean(stacks[-2]) > fmean(stacks[-1]):
            last = stacks.pop()
            stacks[-1] += last
    room = max(low, high - sum(heights))
    starts = [min(max(fmean(stack), low), room) for stack in stacks for _ in stack]
    return [start + floor for start, floor in zip(starts, floors, strict=True)]


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


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


def draw_summary(tables: Sequence[document.Table], language: Language) -> Figure:
    """Draws the results below each other, with the decided best of each column marked."""
    figure = _new_figure(1, 1)
    ax = figure.add_subplot()
    ax.axis("off")
    left, top, widest, cut = MAX_ROWS, 0.0, 0.0, False
    for table in tables:
        shown = table.rows[:left]
        cut = cut or len(shown) < len(table.rows)
        left -= len(shown)
        if shown:
            width, top = _draw_table(ax, figure, table, shown, top)
            widest = max(widest, width)
    notes = [texts.TABLE_NOTE.say(language)]
    if cut:
        rows = sum(len(table.rows) for table in tables)
        notes.append(texts.TABLE_CUT.say(language, shown=MAX_ROWS, all=rows))
    size = mpl.rcParams["font.size"] - 0.5
    wide = max(widest, 4.0)
    note = "\n".join(
        line
        for one in notes
        for line in textwrap.wrap(one, int(wide * (9 if language == "ko" else 17)))
    )
    ax.set(xlim=(0, wide), ylim=(top, 0))
    height = 0.19 * top + 0.13 * (note.count("\n") + 2)
    figure.set_size_inches(wide + 0.1, height)
    figure.supxlabel(note, fontsize=size, color=MUTED, x=0.01, ha="left")
    return figure


def _draw_table(
    ax: Axes, figure: Figure, table: document.Table, rows: Sequence[Any], top: float
) -> tuple[float, float]:
    """Draws a table from a row of the axes on; returns its width and the row below it."""
    cells = [[document.plain(cell) for cell in row] for row in rows]
    headings = [_wrap_heading(heading) for heading in table.headings]
    widths = [
        0.14
        + max(
            _text_width(figure, line, bold=True)
            for text in (heading, *column)
            for line in text.split("\n")
        )
        for heading, column in zip(headings, zip(*cells, strict=True), strict=True)
    ]
    edges = [sum(widths[:place]) for place in range(len(widths) + 1)]
    if table.title:
        ax.text(0.07, top + 0.9, table.title, va="bottom", weight="bold")
        top += 1
    top += 0.75 * max(heading.count("\n") + 1 for heading in headings) + 0.3
    for place, heading in enumerate(headings):
        x, side = _anchor(edges, place, table)
        ax.text(x, top - 0.25, heading, ha=side, va="bottom", weight="bold", linespacing=1.2)
    for row, own in enumerate(cells):
        for place, text in enumerate(own):
            marked = (row, place) in table.best
            if marked:
                ax.fill_between(
                    [edges[place] + 0.03, edges[place + 1] - 0.03], top + row + 0.06,
                    top + row + 0.94, color=BEST, linewidth=0,
                )  # fmt: skip
            x, side = _anchor(edges, place, table)
            ax.text(
                x, top + row + 0.5, text or "–", ha=side, va="center_baseline",
                weight="bold" if marked else "normal",
                color=MUTED if row in table.muted or not text else "black",
            )  # fmt: skip
    ax.hlines([top, top + len(cells)], 0, edges[-1], color="0.2", linewidth=0.8)
    return edges[-1], top + len(cells) + 0.4


def _wrap_heading(heading: str) -> str:
    return "\n".join(_wrap(line, 24) for line in heading.split("\n"))


def _new_figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # lets texts be measured before the figure is saved
    return figure


def _scale() -> float:
    """How much larger the letters are than on paper."""
    return float(mpl.rcParams["font.size"]) / PRINT_POINTS


def _failed_lines(chart: Chart, language: Language) -> list[str]:
    """The settings out of memory, as lines above the plane: they have no speed to stand at."""
    if not isinstance(chart, XYChart) or not chart.failed:
        return []
    listed = ", ".join(name.replace(" ", "\xa0") for name in chart.failed)
    return _wrap(f"× {texts.OUT_OF_MEMORY.say(language)}: {listed}", 44).split("\n")


def _height(chart: Chart, language: Language) -> float:
    """Inches that a chart wants, with its title and axis."""
    if isinstance(chart, BarChart):
        lines = [len(_wrap(bar.name).split("\n")) for bar in chart.bars]
        return (0.6 + sum(0.09 + 0.12 * count for count in lines)) * _scale()
    names = [_wrap(one.name, LABEL_COLUMNS).count("\n") + 1 for one in chart.series]
    labels = 0.75 + (0.105 if chart.lines else 0.16) * sum(names)
    failed = 0.13 * len(_failed_lines(chart, language))
    return max(PLANE_INCHES * math.sqrt(_scale()), labels * _scale()) + failed * _scale()


def _draw_line(ax: Axes, series: Series, width: float) -> None:
    look = series.look
    line = LINES[look.line % len(LINES)]
    for course in series.runs:
        ax.plot(*zip(*course, strict=True), color=look.colour, linewidth=0.4, alpha=0.4)
    xs = [point.x for point in series.points]
    ax.plot(
        xs,
        [point.y for point in series.points],
        color=look.colour,
        linestyle=line,
        linewidth=width,
        marker="o" if len(xs) < 16 else None,
        markersize=width + 1.5,
        markeredgewidth=0,
    )


def _draw_faint(ax: Axes, points: Sequence[Point], look: Look) -> None:
    """Draws single runs, all at once: there may be thousands."""
    for hollow in (False, True):
        chosen = [(point.x, point.y) for point in points if point.hollow == hollow]
        if chosen:
            ax.plot(
                *zip(*chosen, strict=True), "o", color=look.colour, alpha=0.6, markersize=2.6,
                markerfacecolor="white" if hollow else look.colour, markeredgewidth=0.6,
            )  # fmt: skip


def _draw_point(ax: Axes, point: Point, look: Look) -> None:
    if point.x_range:
        ax.plot(point.x_range, [point.y, point.y], color=look.colour, linewidth=1)
    if point.y_range:
        ax.plot([point.x, point.x], point.y_range, color=look.colour, linewidth=1)
    ax.plot(
        point.x, point.y, "o", color=look.colour, markersize=6,
        markerfacecolor="white" if point.hollow else look.colour,
        markeredgecolor=look.colour if point.hollow else "white",
        markeredgewidth=1.2 if point.hollow else 0.6, zorder=3,
    )  # fmt: skip


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), [_wrap(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _wrap(name: str, columns: int = 26) -> str:
    """Breaks a name into lines of so many columns, never within "(16 × 4)"."""
    joined = name.replace(" × ", "\xa0×\xa0")
    lines: list[str] = []
    for word in joined.split(" "):
        if lines and _columns(lines[-1]) + 1 + _columns(word) <= columns:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            # A word longer than a line is broken, since nothing may be cut.
            if _columns(lines[-1]) + _columns(letter) > columns:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _handles(charts: Sequence[Chart], language: Language) -> list[Any]:
    """The key of the signs; settings are named where they are drawn."""
    handles: dict[str, Any] = {}
    for chart in charts:
        if isinstance(chart, BarChart) and len(chart.parts) > 1:
            handles |= {
                part: Patch(facecolor=PART_COLOURS[place % len(PART_COLOURS)], label=part)
                for place, part in enumerate(chart.parts)
            }
    planes = [chart for chart in charts if isinstance(chart, XYChart)]
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
