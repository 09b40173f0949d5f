"""The table that closes a run or a sweep in the terminal."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from batchopt.sweep import RunResult

GIB = 2**30


def print_summary(results: list[RunResult]) -> None:
    """Prints one line a run, as wide as the terminal allows, and every cause that is a trouble."""
    console = Console(highlight=False)
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
            escape(result.name),
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


def _number(value: object, unit: float, digits: int) -> str:
    return f"{value / unit:.{digits}f}" if isinstance(value, int | float) else ""
