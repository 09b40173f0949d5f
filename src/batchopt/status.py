"""`python -m batchopt.status`: shows what each run of a sweep is doing, once or until it ends."""

import math
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from batchopt.cli import OK, answer
from batchopt.errors import RequestError
from batchopt.record.files import is_there
from batchopt.record.keys import Word
from batchopt.record.metrics import GIB
from batchopt.record.statuses import Status
from batchopt.slurm import jobs as slurm
from batchopt.sweeps.progress import (
    LIVE,
    QUEUED,
    TO_COME,
    RunStatus,
    SweepStatus,
    ask_slurm,
    find_sweep,
    span,
    sweep_status,
    time_left,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

REFRESH_S = 2.0
ASK_SLURM_S = 15.0
"""Seconds between two questions to SLURM; its controller serves the whole cluster."""

HELP = """\
What each run of a sweep is doing now.

  python -m batchopt.status [SWEEP] [watch=true]

  SWEEP   a sweep (a directory with sweep.json), a run, or a directory that
          holds sweeps, of which the newest is taken. Default: multirun
  watch   true: go on until the sweep has ended (Ctrl-C ends the watching, not
          the sweep)

States: waiting (its turn has not come), queued (SLURM has not started it),
starting, loading, training, evaluating, saving; missing: it never started, and
nothing is left that would start it; completed, oom, failed, timeout,
interrupted; killed: by its record or by SLURM, or its process is gone (from
another host: no sign of life for two minutes) and left no record.
Columns: loss is the last training loss, ROUGE the last evaluation's mean F1,
GiB the peak memory of the training so far, left the expected time to the run's
end, evaluations included.

Exit codes: 0 shown; 2 the request was wrong."""


def main(words: list[str]) -> int:
    """Shows a sweep once, or until it ends; returns an exit code."""
    if any(word in ("-h", "--help") for word in words):
        print(HELP)
        return OK
    path, watch = _parse(words)
    directory = find_sweep(path)
    if watch:
        _watch(directory)
    else:
        _show(sweep_status(directory, ask_slurm(directory)))
    return OK


HEADINGS = ("run", "preset", "state", "step", "steps/s", "loss", "ROUGE", "GiB", "left", "on")
NARROW = 20
"""With less room for the names than this, the devices go below the table."""

_RIGHT = frozenset(("step", "steps/s", "loss", "ROUGE", "GiB", "left"))


def _cells(run: RunStatus) -> tuple[str, ...]:
    step = "" if run.step is None else f"{run.step}/{run.steps or '?'}"
    return (
        run.name,
        run.preset,
        run.state,
        step,
        _number(run.steps_per_second, 2),
        _number(run.loss, 3),
        _number(run.rouge_f1, 3),
        _number(None if run.peak_memory_bytes is None else run.peak_memory_bytes / GIB, 2),
        "" if run.left_s is None else span(run.left_s),
        run.runs_on,
    )


def _progress(sweep: SweepStatus) -> str:
    """The sweep in a line: `2 of 3 runs ended, 1 training; about 4 min left, until 14:32`."""
    ended = sum(run.ended for run in sweep.runs)
    said = [f"{ended} of {len(sweep.runs)} runs ended"]
    for state in (*LIVE, *TO_COME):
        count = sum(run.state == state for run in sweep.runs)
        if count:
            said.append(f"{count} {state}")
    line = f"{sweep.done:.0%}: {', '.join(said)}"
    if sweep.left_s is not None:
        line += f"; {time_left(sweep.left_s)}"
        if any(run.state == QUEUED for run in sweep.runs):
            line += " and what the queue takes"
    if not sweep.ended:
        return line
    if any(run.state in UNFINISHED for run in sweep.runs):
        line += f"; to finish: python -m batchopt.resume {sweep.directory}"
    return f"{line}; next: python -m analysis sweep={sweep.directory}"


UNFINISHED = (Status.missing, Status.failed, Status.interrupted)
"""How a run of a sweep ends that a resumed sweep runs again."""


def _causes(sweep: SweepStatus) -> list[str]:
    return [f"{run.name}: {run.state}: {run.cause}" for run in sweep.runs if run.cause]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _plain(sweep: SweepStatus) -> Iterator[str]:
    """The lines for a pipe: one a run, with aligned columns, never wrapped."""
    rows = [HEADINGS, *(_cells(run) for run in sweep.runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    yield str(sweep.directory)
    for row in rows:
        aligned = [
            cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        ]
        yield "  ".join(aligned).rstrip()
    yield _progress(sweep)
    yield from _causes(sweep)


def _screen(sweep: SweepStatus, width: int, room: int | None = None) -> "RenderableType":
    """The same for a terminal; if not all runs fit into `room` lines, those that go on."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from batchopt.sweeps.tables import room_for_names, run_table

    colours = dict.fromkeys(LIVE, "cyan") | dict.fromkeys(TO_COME, "dim")
    colours |= {Status.completed: "green", Status.oom: "yellow"}
    shown, causes, left_out = list(sweep.runs), _causes(sweep), ""
    if room is not None and len(shown) + len(causes) > room:
        causes = []
        if len(shown) > room:
            by_interest = sorted(shown, key=lambda run: (run.ended, run.state in TO_COME))
            shown = [run for run in shown if run in by_interest[:room]]
            left_out = f"{len(sweep.runs) - len(shown)} runs more do not fit; a pipe shows them all"
    rows = [[Text(cell) for cell in _cells(run)] for run in shown]
    for run, row in zip(shown, rows, strict=True):
        row[HEADINGS.index("state")].stylize(colours.get(run.state, "red"))
    # A column that says nothing new makes room: names tell the preset, most runs share the device.
    devices = {run.runs_on for run in shown}
    idle = {"preset"} if all(run.preset in run.name for run in shown) else set()
    idle |= {"on"} if len(devices) == 1 else set()
    places = [f"all on {devices.pop()}"] if len(devices) == 1 and devices != {""} else []
    headings, cells = _without(idle, rows)
    if "on" in headings and room_for_names(headings, cells, width) < NARROW:
        headings, cells = _without(idle | {"on"}, rows)
        places = [f"{run.name}: on {run.runs_on}" for run in shown if run.runs_on]
    table = run_table(headings, cells, width, _RIGHT)
    progress = Table.grid(padding=(0, 1, 0, 0))
    progress.add_row(ProgressBar(total=1.0, completed=sweep.done, width=20), _progress(sweep))
    return Group(
        Text(str(sweep.directory), style="bold"),
        progress,
        table,
        *(Text(line, style="dim") for line in [*places, *causes, left_out] if line),
    )


def _without(
    idle: Collection[str], rows: Sequence[Sequence["Text"]]
) -> tuple[list[str], list[list["Text"]]]:
    """The headings and the rows without some columns."""
    used = [at for at, heading in enumerate(HEADINGS) if heading not in idle]
    return [HEADINGS[at] for at in used], [[row[at] for at in used] for row in rows]


def _show(sweep: SweepStatus) -> None:
    if not sys.stdout.isatty():
        print(*_plain(sweep), sep="\n", flush=True)
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_screen(sweep, console.width))


def _watch(directory: Path) -> None:
    """Shows the sweep until it has ended: live in a terminal; in a pipe, each change of a state."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        with Live(console=console, auto_refresh=False) as live:
            for sweep in _moments(directory):
                live.update(_screen(sweep, console.width, console.height - 8), refresh=True)
        return
    states: dict[str, str] = {}
    for sweep in _moments(directory):
        if sweep.ended:
            _show(sweep)
            return
        for run in sweep.runs:
            if states.get(run.name) != run.state:
                print(f"{datetime.now():%H:%M:%S} {run.name}: {run.state}", flush=True)
            states[run.name] = run.state


def _moments(directory: Path) -> Iterator[SweepStatus]:
    """Yields the sweep every few seconds, at last as it ended."""
    jobs: dict[str, slurm.SweepJob] = {}
    asked_at = -math.inf
    while True:
        if time.monotonic() - asked_at > ASK_SLURM_S:
            jobs, asked_at = ask_slurm(directory), time.monotonic()
        sweep = sweep_status(directory, jobs)
        yield sweep
        if sweep.ended:
            return
        time.sleep(REFRESH_S)


def _parse(words: Sequence[str]) -> tuple[Path, bool]:
    path, watch = None, False
    for word in words:
        parsed = Word.parse(word)
        key, value = f"{parsed.sign}{parsed.key}", parsed.value
        if word.startswith("-"):
            raise RequestError(f"{word}: no such flag; --help shows what there is")
        if key == "watch" and value is not None:
            if value.lower() not in ("true", "false"):
                raise RequestError(f"watch is {value}; it must be true or false")
            watch = value.lower() == "true"
        elif value is not None and key != "sweep" and key.isidentifier() and not is_there(word):
            raise RequestError(f"{key}: no such key; the keys are sweep and watch")
        elif path is not None:
            raise RequestError(f"{word}: one SWEEP at a time, and {path} is named already")
        else:
            path = Path(value if key == "sweep" and value is not None else word)
    return path or Path("multirun"), watch


if __name__ == "__main__":
    sys.exit(answer(main))
