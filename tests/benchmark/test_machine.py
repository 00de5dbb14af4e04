from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarking import machine
from benchmarking.machine import (
    describe_machine,
    describe_versions,
    matrix_product,
    peak_memory,
    reset_peak_memory,
)

CPU = torch.device("cpu")


def test_what_is_said_of_the_machine() -> None:
    said = describe_machine()
    assert said["cpu"] and said["cores"] == len(os.sched_getaffinity(0))
    assert isinstance(said["memory_gb"], float) and said["memory_gb"] > 1
    versions = describe_versions()
    assert versions["torch"] == torch.__version__ and versions["numpy"] == np.__version__


def test_missing_libraries_have_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-library"))
    assert describe_versions()["no-such-library"] is None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks can be noted anew on Linux only")
def test_the_peak_rises_with_what_is_taken_and_can_be_forgotten() -> None:
    reset_peak_memory(CPU)
    before = peak_memory(CPU)["process_mb"]
    taken = mmap.mmap(-1, 200_000_000)  # closing it gives all back to the system at once, which no allocator promises
    np.frombuffer(taken, np.uint8)[:] = 1
    assert 190 < peak_memory(CPU)["process_mb"] - before < 260
    taken.close()
    assert peak_memory(CPU)["process_mb"] - before > 190  # a peak stays
    reset_peak_memory(CPU)
    assert peak_memory(CPU)["process_mb"] - before < 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_matrix_product_has_two_operations_per_element_pair(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CHANNELS", 50)
    monkeypatch.setattr(machine, "PIXELS_SIDE", 7)
    multiply, gflop = matrix_product(CPU, dtype)
    multiply()
    assert gflop == pytest.approx(2 * 49 * 50 * 50 / 1e9)
