"""The one exception for what a person can mend, and what is said of other failures."""

import signal


class RequestError(ValueError):
    """A request that cannot be carried out as it was made.

    The message is one line: the key or the file and row, the value, the rule, the remedy.
    Entry points print it and exit with 2; it is never shown as a traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of a message; empty if there is none."""
    return (str(error).strip().splitlines() or [""])[0]


def name_ending(returncode: int) -> str:
    """Returns how a process ended: "exit code 3", or the name of the signal, "SIGSEGV"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        return f"signal {-returncode}"
