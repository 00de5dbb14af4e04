"""How the many libraries say that memory is too small."""

from __future__ import annotations

# PyTorch on the CPU and on Apple's GPU, ONNX Runtime, OpenVINO, cuDNN and cuBLAS.
_SAYINGS = ("allocate memory", "out of memory", "std::bad_alloc", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that something does not fit into memory, on a GPU or on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is PyTorch's
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAYINGS)
