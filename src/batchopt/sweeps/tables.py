"""The tables that open and close a sweep in the terminal, and the exit code that follows."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from batchopt.record.metrics import GIB, METRICS, Better
from batchopt.record.read import RunRecord
from batchopt.record.statuses import Status
from batchopt.request.compose import RunRequest

_STYLES: dict[str, str] = {Status.completed: "green", Status.oom: "yellow"}


def exit_code(runs: Sequence[RunRecord]) -> int:
    """0 if every run ended as a result; 1 if one failed, was interrupted or left no record.

    Out of memory, a timeout and a kill are results: they say something about the preset.
    """
    trouble = (Status.failed, Status.interrupted)
    return int(any(run.final is None or run.status in trouble for run in runs))


def print_plan(requests: Sequence[RunRequest], names: Sequence[str]) -> None:
    """Prints the planned runs, one line each, before the first one starts."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("plan", overflow="fold")
    table.add_column("batch x accumulation\n= examples a step", no_wrap=True)
    for heading in ("packing", "seed", "steps or epochs"):
        table.add_column(heading, justify="left", no_wrap=True)
    for request, name in zip(requests, names, strict=True):
        batch, training = request.config.batch, request.config.training
        epochs = training.num_train_epochs
        table.add_row(
            Text(name),
            f"{request.plan or 'the fastest that fits'} = {batch.effective_batch_size}",
            batch.packing.value,
            str(request.config.seed),
            f"{training.max_steps} steps" if training.max_steps else f"{epochs} epochs",
        )
    console.print(table)


def print_order(order: str, places: Sequence[int]) -> None:
    """Prints in which order the runs start, by their numbers, where it is not as typed.

    Args:
        order: The value of sweep.order.
        places: The place of each run among all in time.
    """
    numbers = sorted(range(len(places)), key=lambda number: places[number])
    if numbers != [*range(len(places))]:
        _console().print(
            "order: seed by seed, drawn within each seed (sweep.order=as_given: as typed): runs "
            + " ".join(map(str, numbers))
        )


def print_best(runs: Sequence[RunRecord], objective: str) -> None:
    """Prints the completed run with the best objective."""
    known = [
        run
        for run in runs
        if run.status == Status.completed and run.metrics.get(objective) is not None
    ]
    if known:
        better = max if METRICS[objective].better is Better.higher else min
        best = better(known, key=lambda run: float(run.metrics[objective]))
        print(f"best: {best.name}: {objective} {best.metrics[objective]:.6g}")


def print_summary(runs: Sequence[RunRecord]) -> None:
    """Prints one line a run, and the cause of every run that did not complete."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("batch", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for heading in ("steps/s", "peak GiB", "ROUGE", "minutes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        style = _STYLES.get(run.status, "red")
        table.add_row(
            Text(run.name),
            _pair(run),
            f"[{style}]{escape(run.status)}[/]",
            _number(run.metrics.get("steps_per_second"), 1, 2),
            _number(run.metrics.get("peak_memory_bytes"), GIB, 2),
            _number(run.metrics.get("rouge_f1"), 1, 3),
            _number(run.metrics.get("total_time_s"), 60, 1),
        )
    console.print(table)
    for run in runs:
        if run.status != Status.completed:
            console.print(f"{run.name}: {run.cause}", markup=False, soft_wrap=True)


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
    return ", ".join([run.status, *known])


def _console() -> Console:
    """A console as wide as the terminal; in a pipe so wide that no line wraps."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _pair(run: RunRecord) -> str:
    size = run.plan.get("per_device_train_batch_size")
    accumulation = run.plan.get("gradient_accumulation_steps")
    return f"{size} x {accumulation}" if size and accumulation else ""


def _number(value: float | None, unit: float, digits: int) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"
