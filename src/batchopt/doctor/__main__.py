"""`python -m batchopt.doctor`: what this machine has, what will not work here, and the remedy.

One line for each thing a training needs or can use. Torch takes seconds to import and speaks to
the driver, so a child process asks it; everything else is read beside it.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from batchopt.cli import OK, SOME_FAILED, Parser, answer, screen
from batchopt.doctor.checks import Check, State, examine


def main(words: list[str]) -> int:
    """Prints the checks; 0 where a training can run, 1 where none can."""
    parser = Parser(
        prog="python -m batchopt.doctor",
        description="What batchopt sees on this machine, and what will not work and why.",
        epilog="Exit codes: 0 a training can run here; 1 it cannot; 2 a wrong command line.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args(words)
    checks = examine()
    lacking = [check.name for check in checks if check.needed and check.state is State.missing]
    if arguments.json:
        document = {"ready": not lacking, "checks": [asdict(check) for check in checks]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(checks)
        device = next(check.values.get("device") for check in checks if check.name == "torch")
        print(
            f"no training can run here: {', '.join(lacking)}"
            if lacking
            else f"a training can run here, on the {'GPU' if device == 'cuda' else 'CPU'}"
        )
    return SOME_FAILED if lacking else OK


def _print(checks: Sequence[Check]) -> None:
    """One line each: as a table in a terminal, as plain text anywhere else."""
    from rich.table import Table
    from rich.text import Text

    console = screen()
    if not console.is_terminal:
        for check in checks:
            remedy = f"; remedy: {check.remedy}" if check.remedy else ""
            print(f"{check.state:<8} {check.name:<18} {check.found}{remedy}")
        return
    colours = {State.ok: "green", State.warning: "yellow", State.missing: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column()
    for check in checks:
        said = Text(check.found)
        if check.remedy:
            said.append(f"\n→ {check.remedy}", style="dim")
        # A training runs without it, so its absence is no alarm.
        spare = check.state is State.missing and not check.needed
        state = Text("optional", "dim") if spare else Text(check.state, colours[check.state])
        table.add_row(state, Text(check.name), said)
    console.print(table)


if __name__ == "__main__":
    sys.exit(answer(main))
