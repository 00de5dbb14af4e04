"""Recognises out-of-memory errors of all libraries."""

from __future__ import annotations

# PyTorch on the CPU and on Apple's GPU, ONNX Runtime, OpenVINO, cuDNN and cuBLAS.
_SAYINGS = ("allocate memory", "out of memory", "std::bad_alloc", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` is an out-of-memory error of a GPU or the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is PyTorch's
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYINGS)
