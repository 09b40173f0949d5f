"""Shared by all commands: one line for a wrong request, and the exit codes."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from batchopt.errors import RequestError
from batchopt.machine.lifeline import end_with_starter

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


class Parser(argparse.ArgumentParser):
    """Refuses a wrong command line in one line; argparse would print its whole usage."""

    def error(self, message: str) -> NoReturn:
        """Turns argparse's message into a refusal.

        Raises:
            RequestError: Always.
        """
        raise RequestError(f"{message}; --help shows what there is")
