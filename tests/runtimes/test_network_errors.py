"""Too little memory, in the words of each library, and numbers that are none."""

from __future__ import annotations

import pytest
import torch

from yolofpn.errors import NaNOutputError, UserError
from yolofpn.runtimes.network_errors import network_errors

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: 99 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.8 GB)"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError("Unable to allocate 9.00 GiB for an array"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_too_little_memory(error: Exception) -> None:
    expected = "out of memory for 8 images"
    with pytest.raises(UserError, match=expected), network_errors(CPU, "fp32", "8 images"):
        raise error


@pytest.mark.parametrize(("precision", "remedy"), [("fp32", "fetch or train"), ("fp16", "--precision fp32")])
def test_output_that_is_not_a_number(precision: str, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy), network_errors(CPU, precision):
        raise NaNOutputError


@pytest.mark.parametrize("error", [ValueError("a NaN in its words alone"), RuntimeError("no such operator")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, network_errors(CPU, "fp32"):
        raise error
    assert caught.value is error
