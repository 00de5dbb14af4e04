"""Returns freed memory to the system: where libraries copy weights, and in servers that run for weeks.

By default glibc learns from each freed block to take the next one from a heap, one for each thread, and these heaps
cannot shrink past whatever lies at their end. Other C libraries stay as they are.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

SMALL_BLOCK = 2**17  # bytes; what is larger gets pages of its own, which go back as soon as it is freed
IMAGE_BLOCK = 2**20  # the same, where most blocks are parts of images
LARGEST_BLOCK = 2**25  # up to which glibc learns by itself, and twice as much free memory it keeps then
_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS = 4

_keeps_small = False


def keep_memory_small() -> None:
    """Set up the C library's allocator for images that come and go; before threads begin."""
    global _keeps_small
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, IMAGE_BLOCK)
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        _keeps_small = True


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Within it, memory that a library frees goes back to the system at once, and the peak is that of what it holds.

    Afterwards large blocks are taken from heaps, as where glibc has seen some freed: new pages for each frame of a
    video would cost more than its resizing.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_M_MMAP_THRESHOLD, SMALL_BLOCK)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_THRESHOLD, IMAGE_BLOCK if _keeps_small else LARGEST_BLOCK)
        if not _keeps_small:
            library.mallopt(_M_TRIM_THRESHOLD, 2 * LARGEST_BLOCK)


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
