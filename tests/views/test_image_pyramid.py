"""One detector on several sizes of an image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.commands import call
from tests.tiny_detector import BLACK, GREEN, RED, quarters
from yolofpn import Predictor, load_detector
from yolofpn.cli.detect import main
from yolofpn.errors import UserError
from yolofpn.ops.array_boxes import Floats, box_iou
from yolofpn.structures import Detections, Limits
from yolofpn.views.image_pyramid import merge_detections


def random_detections(seed: int, count: int = 40) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sides = 10 + torch.rand(count, 2, generator=generator) * 40
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    labels = torch.randint(3, (count,), generator=generator)
    return Detections(torch.cat([corners, corners + sides], dim=1), scores, labels, ("a", "b", "c"), (7, 8, 9))


def merged_by_hand(parts: list[Detections], nms_thresh: float) -> list[tuple[float, int]]:
    """Score and label of what remains, by the definition of greedy NMS."""
    rows = [(each.scores.item(), each.labels.item(), each.boxes) for part in parts for each in part]
    kept: list[tuple[float, int, Floats]] = []
    for score, label, box in sorted(rows, key=lambda row: -row[0]):
        if all(other != label or box_iou(box, better).item() <= nms_thresh for _, other, better in kept):
            kept.append((score, label, box))
    return [(score, label) for score, label, _ in kept]


def test_the_merge_is_nms_over_all_sizes_within_each_class() -> None:
    parts = [random_detections(seed) for seed in (1, 2, 3)]
    merged = merge_detections(parts, Limits(nms_thresh=0.3))
    expected = merged_by_hand(parts, 0.3)
    assert 10 < len(expected) < 120
    assert list(zip(merged.scores.tolist(), merged.labels.tolist(), strict=True)) == expected
    assert (merged.names, merged.category_ids) == (("a", "b", "c"), (7, 8, 9))
    best = merge_detections(parts, Limits(nms_thresh=0.3, detections_per_img=5))
    assert best.scores.tolist() == [score for score, _ in expected[:5]]


def test_a_merge_of_nothing_is_nothing() -> None:
    assert len(merge_detections([Detections.empty(), Detections.empty()], Limits())) == 0


def test_one_size_is_the_plain_run(weights: Path) -> None:
    image = quarters(RED, GREEN, BLACK, RED)
    plain = load_detector(weights, img_size=(64, 96))(image)
    single = load_detector(weights, pyramid=[(64, 96)])(image)
    assert len(plain) > 3
    assert single.boxes.tolist() == plain.boxes.tolist()
    assert single.scores.tolist() == plain.scores.tolist()


def test_each_size_adds_what_it_alone_sees(weights: Path) -> None:
    """At 64 pixels a cell is a quarter of the image, at 128 a sixteenth: the boxes overlap by a quarter."""
    image = quarters(RED, height=128, width=128)
    found = load_detector(weights, pyramid=[64, 128], nms_thresh=0.3)(image)
    assert sorted((found.boxes[:, 2] - found.boxes[:, 0]).tolist()) == [32, 32, 32, 32, 64]
    merged = load_detector(weights, pyramid=[64, 128], nms_thresh=0.2)(image)
    assert merged.boxes.tolist() == [[0, 0, 64, 64]]  # of equal scores the first size's


def test_batches_change_nothing(weights: Path) -> None:
    images = [quarters(RED, BLACK, GREEN), quarters(GREEN), quarters(BLACK)]
    detector = load_detector(weights, pyramid=[64, 96])
    together, alone = detector(images, batch_size=3), [detector(image) for image in images]
    assert [found.boxes.tolist() for found in together] == [found.boxes.tolist() for found in alone]
    assert [len(found) > 0 for found in alone] == [True, True, False]


def test_bad_pyramids(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="image size 100x100 is not a multiple of 32"):
        load_detector(weights, pyramid=[64, 100])
    with pytest.raises(ValueError, match="at least one"):
        load_detector(weights, pyramid=[])
    known = load_detector(weights)
    with pytest.raises(ValueError, match="place"):
        Predictor(known.detector, known.metadata, img_size=64, pyramid=[64])
    for words, message in (
        (["--pyramid", "64,x"], "'x' is not a size"),
        (["--pyramid", ""], "'' is not a size"),
        (["--pyramid", "64,96,64x64"], "repeats a size"),
        (["--pyramid", "64,96", "--img-size", "64"], "not allowed with argument --pyramid"),
    ):
        outcome = call(main, capsys, "x.png", "--weights", weights, *words)
        assert outcome.code == 2
        assert message in outcome.err
