"""Proposals of a one-stage detector, against the definition in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolofpn.models.postprocess import MapSpec
from yolofpn.models.two_stage import proposals
from yolofpn.models.two_stage.proposals import propose_from_maps
from yolofpn.ops.boxes import box_iou

SPECS = {"p4": MapSpec(16, ((10.0, 20.0), (30.0, 15.0))), "p5": MapSpec(32, ((40.0, 60.0), (90.0, 70.0)))}
CLASSES = 3


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def random_maps(batch: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = 2 * (5 + CLASSES)
    return {
        "p4": torch.randn(batch, channels, 4, 6, generator=generator),
        "p5": torch.randn(batch, channels, 2, 3, generator=generator),
    }


def all_boxes(maps: dict[str, Tensor], image: int, size: tuple[int, int]) -> list[tuple[float, list[float]]]:
    """Score and box of every prediction of one image."""
    found = []
    for name, spec in SPECS.items():
        raw = maps[name][image].reshape(2, 5 + CLASSES, *maps[name].shape[2:]).tolist()
        for values, (width, height) in zip(raw, spec.anchors, strict=True):
            for row in range(len(values[0])):
                for column in range(len(values[0][0])):
                    x, y, w, h, objectness, *classes = (channel[row][column] for channel in values)
                    centre_x, centre_y = (sigmoid(x) + column) * spec.stride, (sigmoid(y) + row) * spec.stride
                    half_w, half_h = width * math.exp(w) / 2, height * math.exp(h) / 2
                    box = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
                    box = [min(max(side, 0), size[1 - index % 2]) for index, side in enumerate(box)]
                    found.append((sigmoid(objectness) * max(map(sigmoid, classes)), box))
    return sorted(found, key=lambda each: -each[0])


def test_each_prediction_once_by_its_score_after_nms_over_all_classes() -> None:
    maps, sizes = random_maps(2), [(64, 96), (50, 90)]
    for image, (boxes, scores) in enumerate(propose_from_maps(maps, SPECS, CLASSES, sizes)):
        kept: list[tuple[float, list[float]]] = []
        for score, box in all_boxes(maps, image, sizes[image]):
            others = torch.tensor([other for _, other in kept]).reshape(-1, 4)
            if not len(others) or float(box_iou(torch.tensor([box]), others).max()) <= 0.7:
                kept.append((score, box))
        assert 20 < len(kept) < 60
        assert scores.tolist() == pytest.approx([score for score, _ in kept], abs=1e-6)
        torch.testing.assert_close(boxes, torch.tensor([box for _, box in kept]), rtol=0, atol=1e-3)


def test_only_the_best_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, sizes = random_maps(1), [(64, 96)]
    ((_, scores),) = propose_from_maps(maps, SPECS, CLASSES, sizes)
    monkeypatch.setattr(proposals, "BEFORE_NMS", 5)
    ((_, few),) = propose_from_maps(maps, SPECS, CLASSES, sizes)
    assert 0 < len(few) <= 5
    assert few.tolist() == scores[: len(few)].tolist()


def test_an_image_does_not_depend_on_its_batch() -> None:
    maps, sizes = random_maps(2), [(64, 96), (64, 96)]
    together = propose_from_maps(maps, SPECS, CLASSES, sizes)
    for image in range(2):
        alone = propose_from_maps(
            {name: raw[image : image + 1] for name, raw in maps.items()}, SPECS, CLASSES, sizes[:1]
        )
        assert torch.equal(together[image][0], alone[0][0])


def test_broken_networks_are_found_out() -> None:
    maps = random_maps(1)
    maps["p5"][0, 4, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        propose_from_maps(maps, SPECS, CLASSES, [(64, 96)])
