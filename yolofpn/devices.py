"""The devices that PyTorch runs on, and the arithmetic that they are good at."""

from __future__ import annotations

import os

import torch

from yolofpn.errors import UserError
from yolofpn.hardware import available_cpus, cpu_flags

_DEVICE_TYPES = ("cpu", "cuda", "mps")
_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})  # of matrix registers, and of dot products
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """'auto' -> CUDA (of torchrun's local rank), else Apple's GPU, else the CPU; '0' is 'cuda:0'; else as named.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdecimal() else name)
        if device.type not in _DEVICE_TYPES:
            raise UserError(f"device {name!r} is not known: there are auto, cpu, cuda:N and mps")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"device {name!r} is not available on this machine: use cpu or auto") from None
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """'auto' -> bfloat16 where the device is fast at it, else float32; 'fp32', 'bf16', 'fp16' as named.

    Raises:
        ValueError: it is none of these.
    """
    if precision == "auto":
        return torch.bfloat16 if is_fast_at_bf16(device) else torch.float32
    if precision not in _DTYPES:
        raise ValueError(f"precision {precision!r} is none of auto, {', '.join(_DTYPES)}")
    return _DTYPES[precision]


def precision_name(dtype: torch.dtype) -> str:
    """The reverse of ``choose_dtype``: torch.bfloat16 -> 'bf16'."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def is_fast_at_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and not _BF16_FLAGS.isdisjoint(cpu_flags())


def default_workers(device: torch.device) -> int:
    """Processes that load images: on the CPU one, as the network needs the rest; beside a GPU up to eight."""
    return min(8, max(1, available_cpus() - 1)) if device.type != "cpu" else 1
