"""The stack on which a thread's signal handlers run."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _SignalStack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2) on Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Afterwards the calling thread has the signal stack that it had before.

    OpenVINO's CPU plugin gives the thread that loads it an alternative stack of 20 KB. On processors with matrix
    registers one signal's saved registers take 12 KB of it, so that two signals at once (a worker process that ends
    while Ctrl-C is handled) do not fit, and the kernel ends the process: "overflowed sigaltstack". Without that stack,
    handlers run on the thread's own one, which is large; with ``faulthandler``, on the larger one that it made.
    """
    if sys.platform != "linux":
        yield
        return
    library = ctypes.CDLL(None)
    before = _SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
