"""The processors at hand."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor, as Linux names them; empty elsewhere."""
    return frozenset(_cpu_info("flags", "Features").split())


def cpu_name() -> str:
    """Return the name of the CPU."""
    return _cpu_info("model name") or platform.processor()


def _cpu_info(*keys: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(keys)), "")


def may_have_gpu() -> bool:
    """Whether there is a GPU that PyTorch might use, without asking PyTorch; a driver without a GPU counts too."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads() -> int:
    """Return the number of threads of a library: OMP_NUM_THREADS, else one per CPU core."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(int(given), available_cpus()) if given.isdecimal() and int(given) else available_cpus()
