"""Full fp32 precision on GPUs: disables TF32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.backends import cudnn

_lock = threading.Lock()
_users = 0
_restore = ExitStack()


@contextmanager
def full_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Convolutions of 'fp32' keep all 24 bits of their numbers, as on processors.

    PyTorch's own default on GPUs since Ampere is TF32, which keeps 11 of them and costs a hundred times the tolerance.
    The setting is one of the whole process, so the first user makes it and the last one takes it back.
    """
    if device.type != "cuda" or precision != "fp32":
        yield
        return
    global _users
    with _lock:
        if _users == 0:
            _restore.enter_context(
                cudnn.flags(
                    enabled=cudnn.enabled,
                    benchmark=cudnn.benchmark,
                    benchmark_limit=cudnn.benchmark_limit,
                    deterministic=cudnn.deterministic,
                    allow_tf32=False,
                )
            )
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _restore.close()
