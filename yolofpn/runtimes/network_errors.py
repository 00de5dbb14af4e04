"""Converts errors of networks to messages for users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yolofpn.errors import NaNOutputError, UserError
from yolofpn.memory_errors import is_out_of_memory


@contextmanager
def network_errors(device: object, precision: str, what: str = "this batch") -> Iterator[None]:
    """Turn a lack of memory, and output that is not a number, into errors that say what to do.

    Args:
        device: where the network runs.
        precision: of its arithmetic.
        what: goes through it.

    Raises:
        UserError: one of the two.
    """
    try:
        yield
    except NaNOutputError:
        remedy = "fetch or train them again" if precision == "fp32" else "try --precision fp32"
        raise UserError(f"the network's output is NaN: the weights are damaged: {remedy}") from None
    except Exception as error:  # each library has its own type for it
        if is_out_of_memory(error):
            raise UserError(f"{device} is out of memory for {what}: lower the batch or image size") from None
        raise
