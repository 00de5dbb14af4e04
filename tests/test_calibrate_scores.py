"""tools/calibrate_scores.py: scores become the share of detections that are right."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.runtimes.small import random_images, small_detector

TOOL = Path(__file__).parents[1] / "tools" / "calibrate_scores.py"
LINES = torch.tensor([math.log(1.5), 0.8, math.log(0.7), -0.4], dtype=torch.float64)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate_scores", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the annotations of their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_lines_by_which_detections_were_drawn_are_found(tool: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    chance = torch.sigmoid(1.5 * logits[:, 0] + 0.8) * torch.sigmoid(0.7 * logits[:, 1] - 0.4)
    right = (torch.rand(len(logits), generator=generator) < chance).double()
    images = torch.arange(len(logits))
    outcomes = tool.Outcomes(logits, right, images, torch.ones(len(logits), dtype=torch.float64), right)
    torch.testing.assert_close(tool.scores_of(LINES, logits), chance)
    found = tool.scores_of(tool.fit(outcomes), logits)
    before, after = ((scores - chance).abs().mean() for scores in (torch.sigmoid(logits).prod(dim=1), found))
    assert float(after) < 0.2 * float(before)


def test_a_data_set_counts_by_its_weight_and_not_by_its_detections(tool: ModuleType) -> None:
    """Of the large set nothing is right, of the small one all: with equal weights half is."""
    logits = torch.zeros(1010, 2, dtype=torch.float64)
    right = torch.cat([torch.zeros(1000), torch.ones(10)]).double()
    weights = torch.cat([torch.full((1000,), 1 / 1000), torch.full((10,), 1 / 10)]).double()
    lines = tool.fit(tool.Outcomes(logits, right, torch.arange(1010), weights, right))
    assert float(tool.scores_of(lines, logits[:1])) == pytest.approx(0.5, abs=0.01)


@torch.inference_mode()
def test_the_network_gives_the_calibrated_scores_for_the_same_boxes(tool: ModuleType) -> None:
    detector, _ = small_detector()
    before = detector.dense(random_images())
    tool.put_into(detector, LINES)
    for name, after in detector.dense(random_images()).items():
        old, new = (raw.view(2, 3, -1, *raw.shape[2:]) for raw in (before[name], after))
        torch.testing.assert_close(new[:, :, :4], old[:, :, :4], rtol=0, atol=1e-5)
        torch.testing.assert_close(new[:, :, 4], 1.5 * old[:, :, 4] + 0.8, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(new[:, :, 5:], 0.7 * old[:, :, 5:] - 0.4, rtol=1e-4, atol=1e-4)


def test_the_threshold_has_the_best_f1(tool: ModuleType) -> None:
    """Scores .1 to .9: those from .6 on are right, and of three objects one is not found at all."""
    logits = torch.logit(torch.tensor([0.1, 0.3, 0.54, 0.62, 0.9], dtype=torch.float64))
    certain = torch.full((5,), 40.0, dtype=torch.float64)
    right = torch.tensor([0.0, 0, 0, 1, 1]).double()
    part = tool.Outcomes(torch.stack([logits, certain], dim=1), right, torch.arange(5), torch.ones(5), right / 3)
    assert tool.best_threshold([part]) == 0.55
    assert tool.f1_above(part, 0.55) == pytest.approx((1, 2 / 3, 0.8))
