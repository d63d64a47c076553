"""The one exception for what a user can cause and mend."""


class InputError(ValueError):
    """Bad input: says what was expected, what came, and what to do.

    Commands show its message as one line and exit with status 2; as a ``ValueError`` it can be
    caught by callers of the library who do not know this package.
    """
