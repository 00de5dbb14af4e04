"""What a library frees while it is set up goes back to the system, although a block above it is still held."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# In a process of its own: where much has been freed before, the blocks would come from what glibc keeps.
SCRIPT = """
import os
from pathlib import Path
from yolofpn.free_memory import freed_at_once

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

with freed_at_once():
    blocks = [bytearray(2**20) for _ in range(100)]
    for block in blocks:
        block[::4096] = b"x" * len(block[::4096])
    held = resident()
    del block, blocks[:-1]
    print((held - resident()) / 2**20)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="other allocators stay as they are"
)
def test_memory_below_a_held_block_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 80
