"""Shared by all commands: one line for a wrong request, the exit codes, and the screen."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from batchopt.errors import RequestError
from batchopt.machine.lifeline import end_with_starter

if TYPE_CHECKING:
    from rich.console import Console

OK, SOME_FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130


def answer(main: Callable[[list[str]], int]) -> int:
    """Runs a command on the words of the command line and returns its exit code."""
    end_with_starter()
    try:
        return main(sys.argv[1:])
    except RequestError as error:
        print(f"batchopt: {error}", file=sys.stderr)
        return WRONG_REQUEST
    except KeyboardInterrupt:
        return INTERRUPTED


def screen() -> "Console":
    """A console as wide as the terminal, or as COLUMNS says; in a pipe no line is broken."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=10_000)


class Parser(argparse.ArgumentParser):
    """Refuses a wrong command line in one line; argparse would print its whole usage."""

    def error(self, message: str) -> NoReturn:
        """Turns argparse's message into a refusal.

        Raises:
            RequestError: Always.
        """
        raise RequestError(f"{message}; --help shows what there is")
