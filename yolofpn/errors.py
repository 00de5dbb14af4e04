"""Errors caused by input; messages name the file or value and the fix, in one or two lines."""

DONE, SOME_FAILED, NOTHING_DONE = 0, 1, 2  # exit codes


class UserError(Exception):
    """The command cannot succeed; the command line prints the message and exits with code 2."""


class NaNOutputError(ValueError):
    """The output of a network is not a number: its weights are damaged, or its precision does not suffice."""

    def __init__(self) -> None:
        super().__init__("the network's output is NaN: the weights are damaged or do not fit the network")


class InputError(UserError):
    """One input (an image, a video, an annotation file) is bad: it is reported, and the run continues without it."""
