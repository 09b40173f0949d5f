"""`python -m batchopt.train`: one run, or with -m a sweep.

The straight line: words -> checked requests -> shared preparation -> Hydra runs the jobs, each
trained and recorded in a process of its own -> a table of what came of it.
"""

import argparse
import os
import re
import shlex
import sys

from hydra._internal.utils import get_args_parser

from batchopt import __version__
from batchopt.cli import OK, Parser, answer
from batchopt.errors import RequestError
from batchopt.request import help
from batchopt.request.compose import compose_run
from batchopt.request.config import Config
from batchopt.request.help import help_text
from batchopt.request.messages import field_names
from batchopt.request.words import accept_plus, name_divisors
from batchopt.sweeps.start import run_hydra, run_single, run_sweep


def main(words: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    words = _flags_first(name_divisors([accept_plus(word) for word in words]))
    arguments = _parse(words)
    answered = _answer(arguments, words)
    if answered is not None:
        return answered
    command = shlex.join(["python", "-m", "batchopt.train", *words])
    if arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides:
        return run_sweep(words, arguments.overrides, command)
    return run_single(compose_run(arguments.overrides), words)


def _answer(arguments: argparse.Namespace, words: list[str]) -> int | None:
    """Answers what asks about batchopt or the config and runs nothing; None: it is to run."""
    if arguments.config_name is not None:
        raise RequestError(
            f"--config-name={arguments.config_name}: there is one config; groups and keys say what "
            "differs, and 'hydra.searchpath=[file:///FOLDER]' adds choices of your own"
        )
    if arguments.help:
        print(help_text())
    elif arguments.version:
        print(f"batchopt {__version__}")
    elif arguments.shell_completion and "install=bash" in arguments.overrides:
        print(help.BASH)
    elif arguments.shell_completion or arguments.hydra_help or arguments.info:
        os.environ["COMP_LINE"] = help.plain_line(os.environ)
        return run_hydra(words)
    elif arguments.cfg:
        compose_run(arguments.overrides)  # refuses in one line what Hydra would refuse in ten
        return run_hydra(words)
    else:
        return None
    return OK


def _flags_first(words: list[str]) -> list[str]:
    """Lets `seed=1 -m batch=05a,05b` be written; argparse wants the flags before all overrides."""
    return sorted(words, key=lambda word: "=" in word and not word.startswith("-"))


def _parse(words: list[str]) -> argparse.Namespace:
    # Hydra's own flags, with our way to refuse.
    keys = "|".join(field_names(Config))
    dashed = [word for word in words if re.match(rf"-+({keys})[.=]", word)]
    if dashed:
        raise RequestError(f"{dashed[0]}: no such flag; as a key: {dashed[0].lstrip('-')}")
    parser = Parser(parents=[get_args_parser()], add_help=False, conflict_handler="resolve")
    parser.add_argument("--version", action="store_true")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(answer(main))
