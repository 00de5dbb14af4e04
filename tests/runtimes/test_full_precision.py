"""PyTorch's shortened float32 on GPUs; the setting itself can be seen without one."""

from __future__ import annotations

import pytest
import torch
from torch.backends import cudnn

from yolofpn.runtimes.full_precision import full_precision

CUDA = torch.device("cuda")


def test_the_last_user_takes_the_setting_back() -> None:
    before = cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark
    with full_precision(CUDA, "fp32"):
        with full_precision(CUDA, "fp32"):
            assert not cudnn.allow_tf32
        assert not cudnn.allow_tf32 and cudnn.enabled
    assert (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark) == before


@pytest.mark.parametrize(("device", "precision"), [(torch.device("cpu"), "fp32"), (CUDA, "bf16")])
def test_nothing_changes_elsewhere(device: torch.device, precision: str) -> None:
    before = cudnn.allow_tf32
    with full_precision(device, precision):
        assert cudnn.allow_tf32 == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_convolutions_keep_all_bits() -> None:
    torch.manual_seed(0)
    convolution, images = torch.nn.Conv2d(64, 64, 3), torch.randn(2, 64, 32, 32)
    with torch.inference_mode(), full_precision(CUDA, "fp32"):
        expected = convolution(images)
        found = convolution.to(CUDA)(images.to(CUDA)).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
