"""The exceptions that a user is meant to see."""


class InputError(Exception):
    """Tell the user that an input cannot be used.

    The message is complete by itself: which file, which case or key, what was found, what was
    expected, and what to do. The command line prints it without a stack trace and exits with 1.
    """


class GpuMemoryError(InputError):
    """Tell that a GPU's memory is too small for what was asked of it; more memory of the machine is no help.

    shared: whether other programs held much of it, so that another attempt may find more.
    """

    def __init__(self, message: str, shared: bool = False):
        super().__init__(message)
        self.shared = shared
