"""Draws the three figures. Functions take numbers and an axis and return the axis.

A preset has one colour everywhere; settings that share a preset differ in the line. Nothing here
reads a file or keeps state in pyplot, and every text is drawn as it stands (no mathematics mode).
"""

import importlib.util
import io
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from analysis.frame import BYTES_PER_GIB, SECONDS_PER_MINUTE, TARGET_FRACTION, target_rouge
from analysis.read import Run
from analysis.table import Table, name_tokenizers

Colour = tuple[float, float, float]

LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MUTED = "0.35"
BEST = "#cde6d5"


@dataclass(frozen=True, slots=True)
class Look:
    """How a setting is drawn."""

    colour: Colour
    line: Any
    """A line style of matplotlib."""
    width: float
    """In points, for curves that may coincide: those drawn later are thinner, so all are seen."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's course; `ended_early` marks its last point."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    ended_early: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One run that has both a speed and a peak memory."""

    label: str
    look: Look
    marker: str
    steps_per_second: float
    peak_memory_gib: float


def draw_all(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], table: Table
) -> dict[str, bytes]:
    """Draws every figure and returns the PNG files by name."""
    with style():
        looks = choose_looks(runs, labels)
        return {
            "memory_vs_speed.png": _png(_memory_vs_speed(runs, frame, labels, looks)),
            "training_curves.png": _png(_training_curves(runs, labels, looks)),
            "summary_table.png": _png(_summary_table(table)),
        }


@contextmanager
def style() -> Iterator[None]:
    """Draws in seaborn's style with a font that has Hangul."""
    families = ["DejaVu Sans"]
    # Importing koreanize_matplotlib fails on Python 3.12; its font file is all that is wanted.
    if (spec := importlib.util.find_spec("koreanize_matplotlib")) and spec.origin:
        for path in sorted(Path(spec.origin).parent.glob("fonts/NanumGothic*.ttf")):
            if path.stem not in ("NanumGothic", "NanumGothicBold"):
                continue  # the light one would be taken for the regular one
            font_manager.fontManager.addfont(path)
            families = ["NanumGothic", "DejaVu Sans"]
    settings: Any = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=0.85),
        "font.family": families,
        "axes.unicode_minus": False,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": "0.6",
        "grid.color": "0.9",
        "text.parse_math": False,
    }
    # NanumGothic's bold face calls itself semibold, and DejaVu's does not: one of them complains.
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(settings):
            yield
    finally:
        logger.setLevel(level)


def choose_looks(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Look]:
    """Gives each setting the colour of its preset and a line of its own among that preset's."""
    presets = list(dict.fromkeys(run.preset for run in runs))
    palette = sns.color_palette("colorblind", len(presets))  # begins again after ten
    settings = len(set(labels))
    looks: dict[str, Look] = {}
    used = {preset: place // 10 for place, preset in enumerate(presets)}
    for run, label in zip(runs, labels, strict=True):
        if label not in looks:
            colour = palette[presets.index(run.preset)]
            width = 1.3 + 2.4 * (1 - len(looks) / max(1, settings - 1))
            looks[label] = Look(colour, LINES[used[run.preset] % len(LINES)], width)
            used[run.preset] += 1
    return looks


def draw_memory_vs_speed(
    ax: Axes, points: Sequence[Point], out_of_memory: Mapping[str, Look]
) -> Axes:
    """Draws peak memory against speed, names each setting once, and OOM settings along the top.

    Args:
        ax: Where to draw.
        points: One for each run; those of one setting are named together.
        out_of_memory: The settings that ran out of memory, with how many runs did in the name.
    """
    ax.set(xlabel="speed (optimizer steps/s)", ylabel="peak memory (GiB)")
    for point in points:
        ax.plot(
            point.steps_per_second,
            point.peak_memory_gib,
            point.marker,
            color=point.look.colour,
            markersize=9,
            markeredgecolor="white",
            alpha=0.9,
        )
    if points:
        ax.margins(x=0.18, y=0.2)
    else:
        ax.set(xticks=[], yticks=[])
        _say(ax, "no run has both a speed and a peak memory")
    rows = _draw_out_of_memory(ax, out_of_memory)
    ax.autoscale_view()
    if points:
        low, high = ax.get_ylim()
        ax.set_yticks([tick for tick in ax.get_yticks() if max(0, low) <= tick <= high])
        ax.set_ylim(max(0, low), high + (high - max(0, low)) * 0.075 * rows)
        ax.set_xlim(left=max(0, ax.get_xlim()[0]))
        _place_labels(ax, points, bottom_of_band=1 - _band_height(rows))
    return ax


def draw_curves(
    ax: Axes, curves: Sequence[Curve], *, title: str, x: str, y: str, coincide: bool = False
) -> Axes:
    """Draws one line for each run; a cross ends the line of a run that did not complete.

    Args:
        ax: Where to draw.
        curves: The runs; those without a value are left out.
        title: Title of the panel.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        coincide: Whether the settings are expected to give the same curve.
    """
    ax.set(title=title, xlabel=x, ylabel=y)
    curves = [curve for curve in curves if curve.x]
    for curve in curves:
        width = curve.look.width if coincide else 1.6
        ax.plot(
            curve.x,
            curve.y,
            color=curve.look.colour,
            linestyle=curve.look.line,
            linewidth=width,
            alpha=0.9,
            marker="o" if len(curve.x) < 16 else None,
            markersize=width + 3,
            markeredgewidth=0,
        )
        if curve.ended_early:
            ax.plot(
                curve.x[-1], curve.y[-1], "X", color=curve.look.colour, markersize=10,
                markeredgecolor="black",
            )  # fmt: skip
    if not curves:
        ax.set(xticks=[], yticks=[])
        _say(ax, "no run has measured this")
    return ax


def draw_table(ax: Axes, table: Table) -> Axes:
    """Draws the comparison with the best value of each column marked."""
    widths = np.array(_column_widths(table), dtype=float)
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    rows = len(table.cells)
    ax.set(xlim=(0, edges[-1]), ylim=(rows, -2))
    ax.axis("off")
    for place, heading in enumerate(table.headings):
        x, side = _anchor(edges, place)
        ax.text(x, -0.25, heading, ha=side, va="bottom", weight="bold", fontsize=9, linespacing=1.3)
    ax.hlines([0], 0, edges[-1], color="0.2", linewidth=1.2)
    for row, cells in enumerate(table.cells):
        if row % 2:
            ax.fill_between([0, edges[-1]], row, row + 1, color="0.965", linewidth=0)
        for place, text in enumerate(cells):
            is_best = (row, place) in table.best
            if is_best:
                ax.fill_between(
                    [edges[place] + 0.2, edges[place + 1] - 0.2],
                    row + 0.08,
                    row + 0.92,
                    color=BEST,
                    linewidth=0,
                )
            x, side = _anchor(edges, place)
            muted = not text or cells[2] != "completed"
            ax.text(
                x, row + 0.5, text or "–", ha=side, va="center", fontsize=9.5,
                weight="bold" if is_best else "normal", color=MUTED if muted else "black",
            )  # fmt: skip
    ax.hlines([rows], 0, edges[-1], color="0.2", linewidth=1.2)
    return ax


def _new_figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)  # lets texts be measured before the figure is saved
    return figure


def _memory_vs_speed(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], looks: Mapping[str, Look]
) -> Figure:
    devices = list(dict.fromkeys(str(name) for name in frame["device_name"].dropna()))
    points, out_of_memory = [], dict[str, int]()
    for run, label, (_, row) in zip(runs, labels, frame.iterrows(), strict=True):
        if row["oom"]:
            out_of_memory[label] = out_of_memory.get(label, 0) + 1
        elif not (pd.isna(row["steps_per_second"]) or pd.isna(row["peak_memory_gib"])):
            known = not pd.isna(row["device_name"])
            marker = (
                MARKERS[devices.index(str(row["device_name"])) % len(MARKERS)] if known else "*"
            )
            suffix = "" if run.completed else f" [{run.status}]"
            points.append(
                Point(
                    label + suffix,
                    looks[label],
                    marker,
                    float(row["steps_per_second"]),
                    float(row["peak_memory_gib"]),
                )
            )
    figure = _new_figure(9, 6.2)
    ax = figure.add_subplot()
    ax.set_title("Memory against speed (lower right is better)")
    sources = sorted({str(source) for source in frame["memory_source"].dropna()})
    handles = [
        Line2D([], [], color=MUTED, marker=MARKERS[place % len(MARKERS)], linestyle="", label=name)
        for place, name in enumerate(devices)
    ]
    if out_of_memory:
        handles.append(_cross("out of memory (no speed)"))
    note = "preset (batch × accumulation), one point for each run" + (
        f"; memory as measured by {', '.join(sources)}" if sources else ""
    )
    _legend(figure, handles, columns=2, title=note)
    figure.draw_without_rendering()  # lays out first: labels are placed in the final geometry
    draw_memory_vs_speed(
        ax,
        points,
        {
            label if count == 1 else f"{label}, {count} runs": looks[label]
            for label, count in out_of_memory.items()
        },
    )
    return figure


def _training_curves(
    runs: Sequence[Run], labels: Sequence[str], looks: Mapping[str, Look]
) -> Figure:
    def curves(rows: str, x: str, y: str, x_unit: float = 1, y_unit: float = 1) -> list[Curve]:
        return [
            Curve(
                looks[label],
                [row[x] / x_unit for row in getattr(run, rows)],
                [row[y] / y_unit for row in getattr(run, rows)],
                ended_early=run.status not in ("completed", "running"),
            )
            for run, label in zip(runs, labels, strict=True)
        ]

    figure = _new_figure(12, 8.6)
    (loss, rouge), (memory, efficiency) = figure.subplots(2, 2)
    score = f"validation ROUGE F1 [{name_tokenizers(runs)}]"
    draw_curves(
        loss,
        curves("training", "step", "train_loss"),
        title="Training loss",
        x="optimizer step",
        y="loss (nats per target token)",
        coincide=True,
    )
    draw_curves(
        rouge,
        curves("evaluations", "step", "rouge_f1"),
        title="Validation ROUGE",
        x="optimizer step",
        y=score,
        coincide=True,
    )
    draw_curves(
        memory,
        curves("memory", "time_s", "memory_bytes", SECONDS_PER_MINUTE, BYTES_PER_GIB),
        title="Memory over time",
        x="time since the start of the run (min)",
        y="memory (GiB)",
    )
    draw_curves(
        efficiency,
        curves("evaluations", "train_time_s", "rouge_f1", SECONDS_PER_MINUTE),
        title="Efficiency: ROUGE for training time",
        x="training time without evaluation (min)",
        y=score,
    )
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, label=label, linewidth=2)
        for label, look in looks.items()
    ]
    target = target_rouge(runs)
    if target is not None:
        for ax in (rouge, efficiency):
            ax.axhline(target, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        handles.append(
            Line2D(
                [],
                [],
                color=MUTED,
                linewidth=1,
                linestyle=(0, (2, 2)),
                label=f"target: {100 * TARGET_FRACTION:.0f} % of the best ROUGE",
            )
        )
    if any(run.status not in ("completed", "running", "missing") for run in runs):
        handles.append(_cross("end of a run that did not complete"))
    longest = max(_width(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), 160 // (longest + 8)))
    figure.set_figheight(8.3 + 0.2 * (len(handles) / columns))
    _legend(figure, handles, columns)
    return figure


def _summary_table(table: Table) -> Figure:
    rows = len(table.cells)
    figure = _new_figure(max(8.0, sum(_column_widths(table)) * 0.082), 1.6 + 0.3 * rows)
    ax = draw_table(figure.add_subplot(), table)
    ax.set_title("Comparison of the runs")
    note = (
        "Green: best value of its column among comparable runs. Whether it is beyond the noise is "
        "in the report."
        if table.best
        else "No value is marked: no two runs can be compared."
    )
    figure.supxlabel(note, fontsize=8.5, color=MUTED, x=0.01, ha="left")
    return figure


def _draw_out_of_memory(ax: Axes, settings: Mapping[str, Look]) -> int:
    """Puts a cross for each setting into a band along the upper edge; returns its rows."""
    if not settings:
        return 0
    columns = max(1, min(6, 110 // (max(map(_width, settings)) + 6)))
    rows = -(-len(settings) // columns)
    height = _band_height(rows)
    ax.add_patch(
        Rectangle((0, 1 - height), 1, height, transform=ax.transAxes, color="0.93", linewidth=0)
    )
    for place, (label, look) in enumerate(settings.items()):
        row, column = divmod(place, columns)
        x = 0.03 + column * 0.95 / columns
        y = 1 - height * (row + 0.5) / rows
        ax.plot(
            x, y, "X", transform=ax.transAxes, color=look.colour, markersize=10,
            markeredgecolor="black",
        )  # fmt: skip
        ax.text(x + 0.02, y, label, transform=ax.transAxes, va="center", fontsize=9)
    return rows


def _band_height(rows: int) -> float:
    """Share of the axis that the band of OOM settings takes."""
    return 0.075 * rows / (1 + 0.075 * rows)


def _place_labels(ax: Axes, points: Sequence[Point], bottom_of_band: float) -> None:
    """Names each setting once for each device, on top of nothing else.

    Tries places round the middle one of its points, nearest first, and joins a label that had to
    go far with a thin line.
    """
    frame = ax.get_window_extent()
    inside = Bbox.from_extents(
        frame.x0, frame.y0, frame.x1, frame.y0 + frame.height * bottom_of_band
    )
    positions = [
        ax.transData.transform((point.steps_per_second, point.peak_memory_gib)) for point in points
    ]
    radius = 8 * ax.figure.dpi / 72
    taken = [Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius) for x, y in positions]
    settings: dict[tuple[str, str], list[Any]] = {}
    for point, position in zip(points, positions, strict=True):
        settings.setdefault((point.label, point.marker), []).append(position)
    for (label, _), own in settings.items():
        distances = np.linalg.norm(np.array(own) - np.mean(own, axis=0), axis=1)
        x, y = own[int(distances.argmin())]
        text = ax.text(0, 0, label, fontsize=9, va="center", ha="center", transform=None)
        size = text.get_window_extent()
        for shift_x, shift_y in _shifts(size.width, size.height, radius):
            box = Bbox.from_bounds(
                x + shift_x - size.width / 2,
                y + shift_y - size.height / 2,
                size.width,
                size.height,
            )
            fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
            fits = fits and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if fits and not any(box.overlaps(other) for other in taken):
                break
        else:
            text.remove()  # no room is left: the other figures name it with its numbers
            continue
        taken.append(box)
        text.remove()
        at = ax.transData.inverted().transform([(x, y), (x + shift_x, y + shift_y)])
        if abs(shift_x) > size.width / 2 + 2.7 * radius or abs(shift_y) > 3 * radius:
            ax.plot(at[:, 0], at[:, 1], color="0.6", linewidth=0.8, zorder=1.5)
        ax.text(
            at[1, 0],
            at[1, 1],
            label,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9},
            zorder=3,
        )


def _shifts(width: float, height: float, radius: float) -> Iterator[tuple[float, float]]:
    """Yields shifts of a label's middle from its point, nearest first, in pixels."""
    for ring in range(12):
        across, along = (
            width / 2 + radius * (1.1 + 1.5 * ring),
            height / 2 + radius * (1.1 + 2 * ring),
        )
        yield from ((across, 0), (0, along), (0, -along), (-across, 0))
        yield from ((across, along), (across, -along), (-across, along), (-across, -along))


def _column_widths(table: Table) -> list[float]:
    """Widths of the columns in widths of a digit, with their margins."""
    return [
        3 + max(_width(line) for text in (heading, *column) for line in text.split("\n"))
        for heading, column in zip(table.headings, zip(*table.cells, strict=True), strict=True)
    ]


def _width(text: str) -> int:
    """Width of a text in narrow characters; Hangul is twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _anchor(edges: Any, place: int) -> tuple[float, str]:
    """Where the text of a column stands: words from the left, numbers from the right."""
    if place in (0, 2):
        return float(edges[place]) + 1, "left"
    return float(edges[place + 1]) - 1, "right"


def _cross(label: str) -> Line2D:
    return Line2D(
        [], [], color="0.8", marker="X", markersize=9, markeredgecolor="black", linestyle="",
        label=label,
    )  # fmt: skip


def _legend(
    figure: Figure, handles: Sequence[Line2D], columns: int, title: str | None = None
) -> None:
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=title,
        title_fontsize=8.5,
        fontsize=9,
        handlelength=2.6,
    )


def _say(ax: Axes, sentence: str) -> None:
    ax.text(0.5, 0.5, sentence, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
