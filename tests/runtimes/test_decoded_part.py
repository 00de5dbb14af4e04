"""Predictions that a graph decodes are those of the NumPy postprocessing, for every kind of output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolofpn.models.decoded_outputs import detections_from_decoded, detections_from_rows
from yolofpn.models.postprocess import MapSpec, postprocess_maps
from yolofpn.runtimes.decoded_part import DecodedPart
from yolofpn.structures import Limits

ANCHORS = ((20.0, 30.0), (60.0, 40.0))
SIZE, CLASSES = (64, 96), 3


class Maps(nn.Module):
    """Gives the same maps for every image."""

    def __init__(self, maps: dict[str, Tensor]) -> None:
        super().__init__()
        self.maps = maps
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.images.append(images)
        return self.maps


def specs(**settings: bool | float) -> dict[str, MapSpec]:
    return {f"p{level}": MapSpec(2**level, ANCHORS, **settings) for level in (4, 5)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"scale_x_y": 1.2},
        {"linear_xy": True},
        {"softmax": True},
        {"new_coords": True, "scale_x_y": 2.0},
        {"gaussian": True},
        {"nms_exponent": 0.6},
    ],
    ids=str,
)
def test_every_kind_of_output(kind: dict[str, bool | float]) -> None:
    known = specs(**kind)
    values = next(iter(known.values())).box_values + CLASSES
    random = np.random.default_rng(0)
    shape = (len(ANCHORS) * values, SIZE[0], SIZE[1])
    maps = {name: random.normal(size=(2, shape[0], 64 // s.stride, 96 // s.stride)) for name, s in known.items()}
    if kind.get("new_coords"):
        maps = {name: random.uniform(size=raw.shape) for name, raw in maps.items()}
    raw = {name: torch.from_numpy(each.astype(np.float32)) for name, each in maps.items()}
    part = DecodedPart(Maps(raw), known, SIZE, uint8=True)  # type: ignore[arg-type]  # any module with maps
    output = part(torch.zeros(2, 3, *SIZE, dtype=torch.uint8)).numpy()
    assert output.shape == (2, 4 + CLASSES, 2 * (4 * 6 + 2 * 3))
    limits = Limits((0.1, 0.3, 0.2), 0.5, 20)
    found = detections_from_decoded(output, [SIZE, (48, 96)], limits, kind.get("nms_exponent"))
    expected = postprocess_maps(raw, known, CLASSES, [SIZE, (48, 96)], limits)
    for one, other in zip(found, expected, strict=True):
        assert one.labels.tolist() == other.labels.tolist() and len(one) > 3
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-5)


def test_cells_of_an_input_that_the_stride_does_not_divide() -> None:
    known = {"1": MapSpec(32, ANCHORS, divides=False, anchors_in_cells=True)}
    raw = {"1": torch.from_numpy(np.random.default_rng(1).normal(size=(1, 16, 2, 3)).astype(np.float32))}
    part = DecodedPart(Maps(raw), known, (70, 100), uint8=True)  # type: ignore[arg-type]
    (found,) = detections_from_decoded(part(torch.zeros(1, 3, 70, 100)).numpy(), [(70, 100)], Limits(0.1, 0.5, 9))
    (expected,) = postprocess_maps(raw, known, CLASSES, [(70, 100)], Limits(0.1, 0.5, 9))
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-3)
    assert len(found) == len(expected) > 2


@pytest.mark.parametrize(("uint8", "given", "seen"), [(True, 255.0, 255.0), (False, 1.0, 255.0)])
def test_float_images_are_of_0_to_1(uint8: bool, given: float, seen: float) -> None:
    maps = Maps({"p4": torch.zeros(1, 16, 4, 6), "p5": torch.zeros(1, 16, 2, 3)})
    DecodedPart(maps, specs(), SIZE, uint8=uint8)(torch.full((1, 3, *SIZE), given))  # type: ignore[arg-type]
    assert float(maps.images[0].max()) == seen


def test_rows_are_clipped_and_thresholded_per_class() -> None:
    rows = np.zeros((1, 5, 6), np.float32)
    rows[0, 0] = (10, 10, 90, 60, 0.9, 2)
    rows[0, 1] = (-5, 0, 20, 20, 0.6, 0)
    rows[0, 2] = (0, 0, 20, 20, 0.5, 1)
    (found,) = detections_from_rows(rows, [(50, 80)], Limits((0.1, 0.5, 0.1), 0.5, 10))
    assert found.labels.tolist() == [2, 0]  # a score of .5 is not above its threshold, rows of zeros are padding
    assert found.boxes.tolist() == [[10, 10, 80, 50], [0, 0, 20, 20]]
    (best,) = detections_from_rows(rows, [(50, 80)], Limits(0.1, 0.5, 1))
    assert best.labels.tolist() == [2]
