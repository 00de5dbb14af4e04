"""Returns freed memory to the system, for servers that run for weeks."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache

MMAP_THRESHOLD = 2**20  # bytes; what is larger gets pages of its own, which go back as soon as it is freed
_M_MMAP_THRESHOLD = -3  # malloc.h
_M_ARENA_MAX = -8
_ARENAS = 4


def keep_memory_small() -> None:
    """Set up the C library's allocator for images that come and go; before threads begin.

    By default glibc learns from each freed image to take the next one from a heap, one for each thread, and these heaps
    cannot shrink past whatever lies at their end. Other C libraries stay as they are.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        library.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back_memory() -> None:
    """Collect circles of Python objects, and give free pages back."""
    gc.collect()
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
