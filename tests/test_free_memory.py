"""What a library frees while it is set up goes back to the system, although a block above it is still held."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from yolofpn.free_memory import freed_at_once

MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="other allocators stay as they are"
)
def test_memory_below_a_held_block_is_given_back() -> None:
    with freed_at_once():
        blocks = [np.ones(MIB, np.uint8) for _ in range(100)]
        held = resident()
        del blocks[:-1]
        assert held - resident() > 80 * MIB
