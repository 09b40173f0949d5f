"""The one exception for what a person can mend."""


class RequestError(ValueError):
    """An analysis that cannot be made as it was asked for.

    The message is one line: the key or the path, the value, the rule, the remedy. The entry point
    prints it and exits with 2.
    """
