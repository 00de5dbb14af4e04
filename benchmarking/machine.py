"""Describes the machine and the library versions of a measurement."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from yolofpn.hardware import available_cpus, cpu_flags
from yolofpn.runtimes import RUNTIMES

# Instruction sets that decide how fast networks run.
NOTABLE_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
    "sve",
)
_LIBRARIES = (runtime.module for runtime in RUNTIMES)
PACKAGES = ("torch", "numpy", "opencv-python", "av", *_LIBRARIES, "albumentations", "yolofpn")
MATRIX_SIDE = 8192  # of the product on GPUs
CHANNELS, PIXELS_SIDE = 1024, 64  # of that on CPUs


def describe_machine() -> dict[str, object]:
    """Processor, cores, instruction sets, memory, GPU and system."""
    gpu = None
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return {
        "cpu": cpu_model(),
        "cores": available_cpus(),
        "flags": [flag for flag in NOTABLE_FLAGS if flag in cpu_flags()],
        "memory_gb": round(total_memory() / 1e9, 1),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def describe_versions() -> dict[str, str | None]:
    """Return the versions of Python and the relevant libraries; None for those not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def cpu_model() -> str:
    """Return the CPU name from Linux, elsewhere from Python."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def total_memory() -> int:
    """Bytes of the machine's memory; 0 where the system does not say."""
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory, if the system supports it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peaks in MB: of this process, of its largest worker process, and of what torch took of a GPU."""
    peaks = {"process_mb": _process_peak(os.getpid()) / 1e6}
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    if workers:
        peaks["worker_mb"] = max(_process_peak(pid) for pid in workers) / 1e6
    if device.type == "cuda":
        peaks["gpu_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return peaks


def _process_peak(pid: int) -> int:
    """Bytes; of another process 0 where there is no /proc."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if pid != os.getpid():
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], None], float]:
    """A product of two large square matrices to be timed, and its GFLOP: the most that any network can reach."""
    if device.type == "cpu":
        return _product_as_convolution(dtype)
    left, right = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device).to(dtype) for _ in range(2))
    out = torch.empty(MATRIX_SIDE, MATRIX_SIDE, device=device, dtype=dtype)

    def multiply() -> None:
        torch.mm(left, right, out=out)
        synchronize(device)

    return multiply, 2e-9 * MATRIX_SIDE**3


def _product_as_convolution(dtype: torch.dtype) -> tuple[Callable[[], None], float]:
    """[pixels, channels] x [channels, channels] by the library that computes networks on CPUs.

    That of torch.mm is half as fast on processors of other makers, so that networks would reach 200 % of its best.
    """
    pixels = torch.randn(1, CHANNELS, PIXELS_SIDE, PIXELS_SIDE).to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(CHANNELS, CHANNELS, 1, 1).to(dtype).contiguous(memory_format=torch.channels_last)

    def multiply() -> None:
        with torch.inference_mode():
            torch.nn.functional.conv2d(pixels, kernel)

    return multiply, 2e-9 * (PIXELS_SIDE * CHANNELS) ** 2


def synchronize(device: torch.device) -> None:
    """Synchronise the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
