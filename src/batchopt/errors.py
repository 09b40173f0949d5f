"""The one exception for what a person can mend: a wrong key, value, file or row."""


class RequestError(ValueError):
    """A request that cannot be carried out as it was made.

    The message is one line: the key or the file and row, the value, the rule, the remedy.
    Entry points print it and exit with 2; it is never shown as a traceback.
    """
