from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.runtimes.small import random_images
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.weights import load_weights

CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (Debian package g++)")
def test_compiled_kernels_give_the_same_raw_outputs(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp_cache_precompile_headers", False)  # one kernel gains nothing
    detector = load_weights(weights).detector
    compiled = TorchBackend(detector, CPU, compile=True)
    expected = TorchBackend(detector, CPU).start(random_images())()
    for _ in range(2):  # the second batch runs the kernels that the first one made
        found = compiled.start(random_images())()
        assert found.keys() == expected.keys()
        for name, raw in expected.items():
            torch.testing.assert_close(found[name], raw, rtol=1e-4, atol=1e-4)
