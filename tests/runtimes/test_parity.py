from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.runtimes.small import random_images, small_detector
from yolofpn.runtimes import parity
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.runtimes.parity import TOLERANCES, Parity, check_images, compare_backends
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.structures import Detections, Limits


class Planted:
    """Detections that a 'backend' is made to give: one row is x1, y1, x2, y2, score, label."""

    name, precision, slots = "planted", "fp32", 1

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self.rows = torch.tensor(rows).reshape(-1, 6)

    def start(self, _batch: Tensor) -> Wait:
        return lambda: {"rows": self.rows}


class Reader:
    """A 'detector' that takes such rows as they are."""

    needs_proposals = False

    def postprocess(
        self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]], limits: Limits | None = None
    ) -> list[Detections]:
        rows = dense["rows"]
        return [Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())]


def compare(one: Planted, other: Planted, precision: str = "bf16") -> Parity:
    reader = Reader()
    return compare_backends(reader, one, other, [torch.zeros(1, 3, 8, 8)], TOLERANCES[precision])  # type: ignore[arg-type]


ROWS = [(10.0 * i, 0.0, 10.0 * i + 8, 10.0, 0.5 + 0.01 * i, float(i % 3)) for i in range(10)]


def changed(index: int, row: tuple[float, ...]) -> Planted:
    return Planted(*[row if i == index else old for i, old in enumerate(ROWS)])


def test_the_same_is_the_same() -> None:
    found = compare(Planted(*ROWS), Planted(*ROWS), "fp32")
    assert found == Parity(20, 1.0, 0.0, 0.0, 0.0)
    assert found.holds(TOLERANCES["fp32"])
    assert str(found) == "100.0% of 20 detections are matched, boxes within 0 px, scores within 0"


@pytest.mark.parametrize(
    "row",
    [
        (30.0, 0.0, 38.0, 10.0, 0.53, 1.0),  # another class
        (30.0, 0.0, 38.0, 8.9, 0.53, 0.0),  # IoU 0.89
        (30.0, 0.0, 38.0, 10.0, 0.64, 0.0),  # its score 0.11 higher
    ],
)
def test_a_detection_without_partner_counts_on_both_sides(row: tuple[float, ...]) -> None:
    found = compare(Planted(*ROWS), changed(3, row))
    assert found.partners == pytest.approx(18 / 20)
    assert not found.holds(TOLERANCES["bf16"])


def test_small_differences_are_measured_and_judged_by_precision() -> None:
    other = changed(3, (30.0, 0.0, 38.0, 9.75, 0.51, 0.0))
    found = compare(Planted(*ROWS), other)
    assert (found.partners, found.box_error) == (1.0, 0.25)
    assert found.score_error == pytest.approx(0.02)
    assert found.holds(TOLERANCES["bf16"]) and not found.holds(TOLERANCES["fp32"])
    # In full precision such a score is no partner's.
    assert compare(Planted(*ROWS), other, "fp32").partners == pytest.approx(18 / 20)


def test_a_score_beside_the_threshold_may_fall_below_it() -> None:
    weak = (100.0, 0.0, 108.0, 10.0, 0.2501, 0.0)
    found = compare(Planted(*ROWS, weak), Planted(*ROWS, (*weak[:4], 0.2499, 0.0)))
    assert (found.detections, found.partners) == (21, 1.0)


def test_boxes_that_the_edge_cut_to_nothing_do_not_count() -> None:
    cut = (100.0, 0.0, 100.0, 10.0, 0.9, 0.0)
    assert compare(Planted(*ROWS, cut), Planted(*ROWS, cut), "fp32") == Parity(20, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.slow
def test_where_nothing_is_found_the_maps_decide() -> None:
    class Shifted(TorchBackend):
        def start(self, batch: Batch) -> Wait:
            wait = super().start(batch)
            return lambda: {name: raw + 0.5 * raw.std() for name, raw in wait().items()}

    detector, _ = small_detector()
    for module in detector.head.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            module.bias.data -= 30  # no objects anywhere
    cpu = torch.device("cpu")
    same = compare_backends(
        detector, TorchBackend(detector, cpu), TorchBackend(detector, cpu), [random_images(1)], TOLERANCES["bf16"]
    )
    shifted = compare_backends(
        detector, TorchBackend(detector, cpu), Shifted(detector, cpu), [random_images(1)], TOLERANCES["bf16"]
    )
    assert same.detections == shifted.detections == 0
    assert same.map_error == 0 and same.holds(TOLERANCES["fp32"])
    assert shifted.map_error == pytest.approx(0.5, rel=0.01) and not shifted.holds(TOLERANCES["bf16"])


def test_images_are_drawn_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "sample_images", list)
    drawn = check_images((64, 96))
    assert len(drawn) >= 2
    assert all(image.shape == (1, 3, 64, 96) and image.dtype == torch.uint8 for image in drawn)
    assert all(float(image.float().std()) > 20 for image in drawn)
