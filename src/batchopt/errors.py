"""The one exception for what a person can mend, and what is said of other people's exceptions."""


class RequestError(ValueError):
    """A request that cannot be carried out as it was made.

    The message is one line: the key or the file and row, the value, the rule, the remedy.
    Entry points print it and exit with 2; it is never shown as a traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of a message; empty if there is none."""
    return (str(error).strip().splitlines() or [""])[0]
