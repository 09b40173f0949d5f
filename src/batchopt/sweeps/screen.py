"""Shows a run in the terminal while it goes on: a bar for the run, and a line for its sweep.

In a pipe, a log file or CI there is no bar, only a line when the run begins and one when it ends.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchopt.record.files import RECORD, read_json
from batchopt.record.read import read_plan, read_planned_run
from batchopt.sweeps.progress import PHASES, span, time_left
from batchopt.sweeps.tables import in_words

REFRESHES_PER_SECOND = 2
"""Drawing costs the process that measures about a millisecond each time."""


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a run in its sweep.

    `turn` counts from 1. `runs` is 0 for a single run, and None for a search without a limit.
    `earlier_s` are the seconds that the earlier runs took.
    """

    turn: int
    runs: int | None
    earlier_s: tuple[float, ...]

    def __str__(self) -> str:
        return f"run {self.turn}" + (f" of {self.runs}" if self.runs else "")


def find_place(run_dir: Path, trials: int | None) -> Place:
    """Finds a run in its sweep's plan; `trials` is the number of runs of a search."""
    plan = read_plan(run_dir.parent)
    jobs = () if plan is None else sorted(plan.jobs, key=lambda job: job.place)
    names = [job.run_dir for job in jobs]
    if plan is None or run_dir.name not in names:
        return Place(1, 0, ())
    turn = names.index(run_dir.name)
    records = [read_json(run_dir.parent / name / RECORD) for name in names[:turn]]
    times = [record["metrics"].get("total_time_s") for record in records if record]
    runs = len(names) if plan.search is None else trials
    return Place(turn + 1, runs, tuple(took for took in times if took is not None))


@contextmanager
def show_run(run_dir: Path, plan: str, trials: int | None = None) -> Iterator["Screen"]:
    """Shows a run until it has ended, and then prints its result in one line."""
    place = find_place(run_dir, trials)
    alone = not place.runs and place.turn == 1
    # As the plan shows it: Hydra makes the path absolute.
    here = run_dir.is_relative_to(Path.cwd())
    path = run_dir.relative_to(Path.cwd()) if here else run_dir
    name = str(path) if alone else run_dir.name
    screen = Screen(name, place)
    console = Console(stderr=True, highlight=False)
    head = f"{name}: {plan}" if alone else f"{place}: {name}: {plan}"
    if not is_live(console):
        print(head, flush=True)
        yield screen
    else:
        with (
            Live(
                screen,
                console=console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            ) as live,
            _logging_above(),
        ):
            screen.say = lambda text: live.console.print(text, markup=False)
            yield screen
    print(f"{name}: {in_words(read_planned_run(run_dir))}", flush=True)


def is_live(console: Console) -> bool:
    """Whether to draw a bar: on a terminal that can, and not in CI."""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")


@contextmanager
def _logging_above() -> Iterator[None]:
    """Prints log lines above the bar instead of through it."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stderr__,)
    ]
    for handler in handlers:
        handler.setStream(sys.stderr)  # which is now the bar's
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(sys.__stderr__)


class Screen:
    """What the run's process has reported so far; drawn anew a few times a second."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.began = time.monotonic()
        self.phase = "starting"
        self.step = 0
        self.steps: int | None = None
        self.figures: dict[str, str] = {}
        self.say: Callable[[str], None] = _say
        self._first: tuple[int, float] | None = None
        """The first step that was reported, and when; the start-up is left out of the estimate."""

    def take(self, message: Mapping[str, Any]) -> None:
        """Takes one message of the run's process."""
        if "warning" in message:
            self.say(message["warning"])
        self.phase = PHASES.get(message.get("phase", ""), self.phase)
        if "facts" in message:
            self.steps = message["facts"]["plan"]["optimizer_steps"]
        if "loss" in message:
            self.figures["loss"] = f"{message['loss']:.3f}"
        if "evaluation" in message:
            self.figures["ROUGE"] = f"{message['evaluation']['rouge_f1']:.3f}"
        if "step" in message:
            self.step = message["step"]
            self._first = self._first or (self.step, time.monotonic())

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to the end of the run, with evaluations; None before a second step."""
        if not self.steps or self._first is None or self.step <= self._first[0]:
            return None
        each_s = (time.monotonic() - self._first[1]) / (self.step - self._first[0])
        return (self.steps - self.step) * each_s

    @property
    def sweep_left_s(self) -> float | None:
        """The same for the sweep, as if the runs to come took the mean time of those so far."""
        own = self.left_s
        known = [*self.place.earlier_s]
        if own is not None:
            known.append(time.monotonic() - self.began + own)
        if not known:
            return None
        if own is None:
            own = max(0.0, fmean(known) - (time.monotonic() - self.began))
        return own + ((self.place.runs or self.place.turn) - self.place.turn) * fmean(known)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[Any] = [Text(self.name, style="bold"), Text(self.phase, style="cyan")]
        if self.steps:
            done = f"{self.step}/{self.steps}"
            cells += [ProgressBar(total=self.steps, completed=self.step, width=24), Text(done)]
        cells += [Text(f"{name} {value}") for name, value in self.figures.items()]
        if self.left_s is not None:
            cells.append(Text(f"{span(self.left_s)} left", style="dim"))
        line.add_row(*cells)
        for column, cell in zip(line.columns, cells, strict=True):
            column.no_wrap = isinstance(cell, Text)  # in a narrow terminal the bar shrinks first
        yield line
        if self.place.runs != 0:
            yield Text(self._sweep_line(), style="dim")

    def _sweep_line(self) -> str:
        left_s = self.sweep_left_s
        if left_s is None:
            return str(self.place)
        return f"{self.place}, {time_left(left_s)}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
