"""tools/average_weights.py: kernels of 8 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOOL = Path(__file__).parents[1] / "tools" / "average_weights.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("average_weights", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_channels_become_multiples_that_fp16_holds(tool: ModuleType) -> None:
    kernel = (
        torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-4, 1, 16)[:, None, None, None]
    )
    rounded = tool.round_channels(kernel)
    assert torch.equal(rounded.half().float(), rounded)
    for row, original in zip(rounded.flatten(1), kernel.flatten(1), strict=True):
        step = min(step for step in (row.abs().max() / count for count in range(1, 128)) if _all_multiples(row, step))
        assert float((row - original).abs().mean() / original.abs().mean()) < 0.02
        assert step > original.abs().max() / 260


def _all_multiples(row: torch.Tensor, step: torch.Tensor) -> bool:
    return torch.equal((row / step).round() * step, row)


def test_what_is_rounded_already_stays(tool: ModuleType) -> None:
    numbers = torch.arange(-127, 128, dtype=torch.float32).repeat(2, 1).view(2, 255, 1, 1)
    kernel = numbers * torch.tensor([0.0625, 13 / 4096]).view(2, 1, 1, 1)
    assert torch.equal(tool.round_channels(kernel), kernel)
    assert torch.equal(tool.round_channels(torch.zeros(1, 4, 3, 3)), torch.zeros(1, 4, 3, 3))
