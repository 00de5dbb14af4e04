"""Work at which a process ends, in a file of its own: a process that is spawned for it imports nothing else."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection


def die_of_the_third(first: int, began: Connection) -> None:
    """Begin four images, and be killed at the third."""
    for index in range(first, 4):
        began.send(index)
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def raise_at_once(first: int, began: Connection) -> None:
    """Begin an image, and end with an error of Python's."""
    began.send(first)
    sys.exit(1)
