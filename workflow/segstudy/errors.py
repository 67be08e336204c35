"""The one exception a user is meant to see."""


class InputError(Exception):
    """Tell the user that an input cannot be used.

    The message is complete by itself: which file, which case or key, what was found, what was
    expected, and what to do. The command line prints it without a stack trace and exits with 1.
    """
