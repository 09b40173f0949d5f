"""`batchopt NAME …`: every command under one name.

A command's module runs as `python -m` runs it, so that arguments, messages and exit codes are the
same. Nothing else is imported here: a command starts as lightly as on its own.
"""

import difflib
import runpy
import shlex
import sys
from collections.abc import Sequence

from batchopt import __version__
from batchopt.commands import COMMANDS
from batchopt.record.files import is_there

OTHER_NAMES = {"analyse": "analyze", "analysis": "analyze", "run": "train", "sweep": "train"}
"""Other words for a command, which no comparison of letters would find."""


def main() -> int:
    """Runs the command that the command line names; returns the exit code."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"batchopt {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"batchopt: {refusal(name, words)}", file=sys.stderr)
        return 2
    module = COMMANDS[name].module
    sys.argv = [module, *(with_aim(words) if name == "adopt" else words)]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def help_text() -> str:
    """Lists the commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  batchopt {name:<{width}}  {command.text}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Which per-device batch size and how much gradient accumulation?",
            "Measured, with the evidence.",
            "",
            "Commands (each with --help):",
            *lines,
            "",
            "batchopt NAME is the same as python -m batchopt.NAME; analyze and adopt are",
            "python -m analysis. batchopt --version shows the version.",
            "",
            "Examples:",
            "  batchopt train batch=05b",
            "  batchopt train -m batch=05a,05b,05c seed=1,2,3",
            "  batchopt analyze",
            "  batchopt adopt least_memory",
            "",
            'Completion in bash: eval "$(batchopt train -sc install=bash)"',
        ]
    )


def refusal(name: str, words: Sequence[str]) -> str:
    """The message for a name that is no command."""
    if "=" in name or name in ("-m", "--multirun"):
        return f"{name} names no command; to train: batchopt train {shlex.join([name, *words])}"
    close = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
    meant = OTHER_NAMES.get(name.lower()) or (close[0] if close else "")
    hint = f"did you mean {meant}? " if meant else ""
    return f"{name}: no such command; {hint}commands: {', '.join(COMMANDS)}"


def with_aim(words: Sequence[str]) -> list[str]:
    """Spells the words of `adopt [AIM]` as the analysis reads them; the fastest is the default."""
    asks_help = {"-h", "--help"} & set(words)
    if asks_help or any(word.startswith("adopt=") for word in words):
        return list(words)
    aims = [word for word in words if "=" not in word and not is_there(word)]
    aim = aims[0] if aims else "fastest"
    return [f"adopt={aim}", *(word for word in words if word not in aims[:1])]


if __name__ == "__main__":
    sys.exit(main())
