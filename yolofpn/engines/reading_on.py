"""Reads on where a connection broke: what is read from start to end is opened again, and what was given is skipped."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from yolofpn.addresses import shown
from yolofpn.errors import InputError, UserError
from yolofpn.remote_files import LASTING, PAUSES

T = TypeVar("T")


def read_on(
    uri: str, items: Callable[[], Iterator[T]], damaged: tuple[type[Exception], ...], *, what: str
) -> Iterator[T]:
    """Yield ``items()``; after an error that may pass, those of another call that have not come yet.

    Args:
        uri: of the file.
        items: opens the file, and yields what is in it.
        damaged: errors that no attempt mends, as the content is bad.
        what: the items, in messages.

    Raises:
        InputError: the file is damaged, or cannot be read to its end; the message has nothing of the error's text,
            which may repeat credentials.
        UserError: as ``items`` raises it.
    """
    given = 0
    for pause in (*PAUSES, None):
        try:
            for item in islice(items(), given, None):
                given += 1
                yield item
            return
        except UserError:  # opening was tried several times
            raise
        except damaged as error:
            raise InputError(f"{shown(uri)}: damaged after {given} {what} ({type(error).__name__})") from None
        except Exception as error:  # libraries of storage have errors of their own
            if pause is None or isinstance(error, LASTING):
                reason = type(error).__name__
                raise InputError(
                    f"{shown(uri)}: cannot be read after {given} {what} ({reason}); resume later"
                ) from None
            time.sleep(pause * random.uniform(0.5, 1))
