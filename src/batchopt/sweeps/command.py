"""The command line of `batchopt.train`: words, Hydra's flags, and questions that run nothing."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.utils import get_args_parser

from batchopt import __version__
from batchopt.cli import OK, Parser
from batchopt.errors import RequestError
from batchopt.record.keys import Word
from batchopt.request import help
from batchopt.request.compose import compose_run
from batchopt.request.config import Config
from batchopt.request.messages import field_names
from batchopt.request.scripts import refuse_script_words
from batchopt.request.words import read_words
from batchopt.sweeps.start import run_hydra


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that has been read: `words` are its flags and then its overrides."""

    words: list[str]
    overrides: list[str]
    flags: argparse.Namespace

    @property
    def is_sweep(self) -> bool:
        """Whether several runs are asked for, by -m or Hydra's own key."""
        return bool(self.flags.multirun) or "hydra.mode=MULTIRUN" in self.overrides

    def __str__(self) -> str:
        return shlex.join(["python", "-m", "batchopt.train", *self.words])


def read_command(typed: Sequence[str]) -> Command:
    """Reads the words of a command line.

    Raises:
        RequestError: A flag that does not exist.
    """
    # argparse wants flags before overrides; people write `seed=1 -m batch=05a,05b`.
    words = sorted(read_words(typed), key=_is_override)
    keys = "|".join(field_names(Config))
    dashed = [word for word in words if re.match(rf"-+({keys})[.=]", word)]
    if dashed:
        raise RequestError(f"{dashed[0]}: no such flag; as a key: {dashed[0].lstrip('-')}")
    refuse_script_words(typed)
    parser = Parser(parents=[get_args_parser()], add_help=False, conflict_handler="resolve")
    parser.add_argument("--version", action="store_true")
    flags = parser.parse_args(words)
    if flags.config_name is not None:
        raise RequestError(
            f"--config-name={flags.config_name}: there is one config; groups and keys say what "
            "differs, and 'hydra.searchpath=[file:///FOLDER]' adds choices of your own"
        )
    return Command(words, flags.overrides, flags)


def answer_question(command: Command) -> int | None:
    """Answers a question about batchopt or the config; None if the command asks for a run."""
    flags, overrides = command.flags, command.overrides
    if flags.help:
        print(help.help_text())
    elif flags.version:
        print(f"batchopt {__version__}")
    elif flags.shell_completion and "install=bash" in overrides:
        print(help.BASH)
    elif flags.shell_completion or flags.hydra_help or flags.info:
        os.environ["COMP_LINE"] = help.plain_line(os.environ)
        return run_hydra(command.words)
    elif flags.cfg:
        compose_run(overrides)  # refuses in one line what Hydra would refuse in ten
        return run_hydra(command.words)
    else:
        return None
    return OK


def _is_override(word: str) -> bool:
    return not word.startswith("-") and Word.parse(word).value is not None
