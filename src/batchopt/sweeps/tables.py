"""The tables that open and close a sweep in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from batchopt.record.metrics import METRICS, Better
from batchopt.request.compose import RunRequest
from batchopt.sweeps.results import RunResult

GIB = 2**30


def print_plan(requests: Sequence[RunRequest], names: Sequence[str]) -> None:
    """Prints what is going to run, one line a run, before anything does."""
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


def print_best(results: Sequence[RunResult], objective: str) -> None:
    """Prints which completed run has the best objective."""
    known = [r for r in results if r.status == "completed" and r.metrics.get(objective) is not None]
    if known:
        better = max if METRICS[objective].better is Better.higher else min
        best = better(known, key=lambda result: float(result.metrics[objective]))
        print(f"best: {best.name}: {objective} {best.metrics[objective]:.6g}")


def print_summary(results: Sequence[RunResult]) -> None:
    """Prints one line a run, as wide as the terminal allows, and every cause that is a trouble."""
    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("batch", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for heading in ("steps/s", "peak GiB", "ROUGE", "minutes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        metrics = result.metrics
        style = {"completed": "green", "oom": "yellow"}.get(result.status, "red")
        table.add_row(
            Text(result.name),
            escape(result.plan),
            f"[{style}]{escape(result.status)}[/]",
            _number(metrics.get("steps_per_second"), 1, 2),
            _number(metrics.get("peak_memory_bytes"), GIB, 2),
            _number(metrics.get("rouge_f1"), 1, 3),
            _number(metrics.get("total_time_s"), 60, 1),
        )
    console.print(table)
    for result in results:
        if result.status != "completed":
            console.print(f"{result.name}: {result.cause}", markup=False, soft_wrap=True)


def _console() -> Console:
    """The terminal's width; in a pipe so wide that nothing is folded."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def in_words(result: RunResult) -> str:
    """How a run ended, in a line: its cause, or its main figures."""
    if result.status != "completed":
        return f"{result.status}: {result.cause}"
    figures = (
        ("steps_per_second", 1, ".2f", "steps/s"),
        ("peak_memory_bytes", 2**30, ".2f", "GiB peak"),
        ("rouge_f1", 1, ".3f", "ROUGE"),
        ("total_time_s", 60, ".1f", "minutes"),
    )
    known = (
        f"{result.metrics[name] / unit:{form}} {label}"
        for name, unit, form, label in figures
        if result.metrics.get(name) is not None
    )
    return ", ".join([result.status, *known])


def _number(value: object, unit: float, digits: int) -> str:
    return f"{value / unit:.{digits}f}" if isinstance(value, int | float) else ""
