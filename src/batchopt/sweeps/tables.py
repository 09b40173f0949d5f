"""The tables that open and close a sweep in the terminal, and the exit code that follows."""

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchopt.cli import screen
from batchopt.record.metrics import GIB, METRICS, Better
from batchopt.record.read import RunRecord
from batchopt.record.statuses import Status
from batchopt.request.compose import RunRequest

DISTURBED = "*"
"""Marks a speed that was measured beside other work."""

_STYLES: dict[str, str] = {Status.completed: "green", Status.oom: "yellow"}


def exit_code(runs: Sequence[RunRecord]) -> int:
    """0 if every run ended as a result; 1 if one failed, was interrupted or left no record.

    Out of memory, a timeout and a kill are results: they say something about the preset.
    """
    return int(any(map(_is_left, runs)))


def print_plan(requests: Sequence[RunRequest], names: Sequence[str]) -> None:
    """Prints the planned runs, one line each, before the first one starts."""
    rows = []
    for request, name in zip(requests, names, strict=True):
        batch, training = request.config.batch, request.config.training
        epochs = training.num_train_epochs
        cells = (
            name,
            f"{request.plan or 'the fastest that fits'} = {batch.effective_batch_size}",
            batch.packing.value,
            str(request.config.seed),
            f"{training.max_steps} steps" if training.max_steps else f"{epochs} epochs",
        )
        rows.append([Text(cell) for cell in cells])
    headings = ("plan", "batch x accumulation\n= examples a step", "packing", "seed", "length")
    console = _console()
    console.print(run_table(headings, rows, console.width))


def run_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Text]],
    width: int,
    right: Collection[str] = (),
) -> Table:
    """Makes a table of runs, each by its name and then its figures.

    Where it would be wider than the terminal, the names take several lines, broken after a comma;
    figures stay whole.

    Args:
        headings: Of the columns, the first of which holds the names.
        rows: The cells of each run.
        width: Columns of the terminal.
        right: Headings of the columns that are set flush right.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        justify = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    room = room_for_names(headings, rows, width)
    for row in rows:
        table.add_row(Text(broken(row[0].plain, room)), *row[1:])
    return table


GAP = 2
"""Columns of the terminal between two columns of a table."""


def room_for_names(headings: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> int:
    """How many columns of the terminal the figures of a table leave to the names."""
    columns = zip(*([*map(Text, headings)], *rows), strict=True)
    widths = [
        max(cell_len(line) for cell in one for line in cell.plain.split("\n")) for one in columns
    ]
    return width - sum(widths[1:]) - GAP * len(widths[1:])


def broken(name: str, width: int) -> str:
    """Breaks a run's name into lines: after commas or, where a part is too wide, between words."""
    lines = [""]
    for part in re.findall(r"[^,]+,?|,", name):
        for piece in [part] if cell_len(part) <= width else words_of(part):
            if lines[-1] and cell_len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def words_of(name: str) -> list[str]:
    """The words of a run's name, each with the sign that ends it; a number stays whole."""
    return re.split(r"(?<=[,=_])|(?<=\.)(?=[^\W\d])", name)


def print_order(places: Sequence[int]) -> None:
    """Prints in one line in which order the runs of a sweep start, by their numbers.

    Args:
        places: The place of each run among all in time.
    """
    numbers = sorted(range(len(places)), key=lambda number: places[number])
    if numbers == [*range(len(places))]:
        line = "as typed"
    else:
        line = "seed by seed, drawn within each (sweep.order=as_given: as typed): runs "
        line += " ".join(map(str, numbers))
    _console().print(f"order: {line}")


def print_best(runs: Sequence[RunRecord], objective: str) -> None:
    """Prints the completed run with the best objective; one that was disturbed is none."""
    known = [
        run
        for run in runs
        if run.status == Status.completed
        and run.metrics.get(objective) is not None
        and not _disturbances(run)
    ]
    if known:
        better = max if METRICS[objective].better is Better.higher else min
        best = better(known, key=lambda run: float(run.metrics[objective]))
        print(f"best: {best.name}: {objective} {best.metrics[objective]:.6g}")


def print_summary(runs: Sequence[RunRecord]) -> None:
    """Prints one line a run, what disturbed it, and the cause of each that did not complete."""
    console = _console()
    rows = []
    for run in runs:
        mark = DISTURBED if _disturbances(run) else ""
        rows.append(
            [
                Text(run.name),
                Text(_pair(run)),
                Text(run.status, style=_STYLES.get(run.status, "red")),
                Text(_number(run.metrics.get("steps_per_second"), 1, 2, mark)),
                Text(_number(run.metrics.get("peak_memory_bytes"), GIB, 2)),
                Text(_number(run.metrics.get("rouge_f1"), 1, 3)),
                Text(_number(run.metrics.get("total_time_s"), 60, 1)),
            ]
        )
    figures = ("steps/s", "peak GiB", "ROUGE", "minutes")
    headings = ("run", "batch", "status", *figures)
    console.print(run_table(headings, rows, console.width, figures))
    for run in runs:
        if run.status != Status.completed:
            console.print(f"{run.name}: {run.status}: {run.cause}", markup=False)
        if _disturbances(run):
            reasons = "; ".join(_disturbances(run))
            console.print(
                f"{DISTURBED} {run.name}: disturbed, so its speed says nothing of the setting: "
                f"{reasons}",
                markup=False,
            )


def print_remedy(runs: Sequence[RunRecord], directory: Path) -> None:
    """Prints the command that finishes what failed, was interrupted or never started."""
    left = sum(_is_left(run) for run in runs)
    if left:
        what = "1 run is" if left == 1 else f"{left} runs are"
        command = f"python -m batchopt.resume {shlex.quote(str(directory))}"
        print(f"{what} not finished; to finish: {command}", flush=True)


def in_words(run: RunRecord) -> str:
    """One line about a run that has ended: the cause, or the main figures."""
    if run.status != Status.completed:
        return f"{run.status}: {run.cause}"
    figures = (
        ("steps_per_second", 1, ".2f", "steps/s"),
        ("peak_memory_bytes", GIB, ".2f", "GiB peak"),
        ("rouge_f1", 1, ".3f", "ROUGE"),
        ("total_time_s", 60, ".1f", "minutes"),
    )
    known = (
        f"{run.metrics[name] / unit:{form}} {label}"
        for name, unit, form, label in figures
        if run.metrics.get(name) is not None
    )
    return ", ".join([run.status, *known, *(["disturbed"] if _disturbances(run) else [])])


def _console() -> Console:
    return screen()


def _is_left(run: RunRecord) -> bool:
    return run.final is None or run.status in (Status.failed, Status.interrupted)


def _disturbances(run: RunRecord) -> Sequence[str]:
    """Why the times of a run are not to be trusted; empty where they are."""
    return run.metrics.get("timing_untrusted") or ()


def _pair(run: RunRecord) -> str:
    size = run.plan.get("per_device_train_batch_size")
    accumulation = run.plan.get("gradient_accumulation_steps")
    return f"{size} x {accumulation}" if size and accumulation else ""


def _number(value: float | None, unit: float, digits: int, mark: str = "") -> str:
    return "" if value is None else f"{value / unit:.{digits}f}{mark}"
