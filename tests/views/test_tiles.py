"""Tiles: objects at their seams, with detectors whose answers are known, and a slow reference of the merge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, RED
from yolofpn import load_detector
from yolofpn.cli.detect import main
from yolofpn.inference import predictor
from yolofpn.inference.predictor import PASSES_AT_ONCE, TILES_AT_ONCE
from yolofpn.ops.resize import Placement, resize_image
from yolofpn.runtimes.backend import Batch, Wait, Wrapped
from yolofpn.structures import Detections, Image, Limits
from yolofpn.types import RawMaps, ResizeMode
from yolofpn.views.tiles import (
    CUT_WEIGHT,
    EDGE,
    INSIDE,
    SHARED,
    SHOWN,
    View,
    make_views,
    merge_views,
)

Box = tuple[float, float, float, float]
IMAGE, TILE = (1000, 1500), (500, 500)
LIMITS = Limits(nms_thresh=0.5)
VIEWS = make_views(IMAGE, TILE, 0.2)


def clip(box: Box, window: Box) -> Box:
    return max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])


def area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def seen_by(
    view: View, boxes: list[Box], labels: list[int], *, least: float = 0.1, smallest: float = 0.0
) -> Detections:
    """An ideal detector: finds what the view shows of each object, with a score that grows with that part."""
    rows = []
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        shown = clip(box, view.window)
        part = area(shown) / area(box)
        if part > least and (area(box) > smallest or view is not VIEWS[0]):
            rows.append((shown, 0.5 * part + 0.01 * (number % 7) + 0.3 * (view is not VIEWS[0]), label))
    rows.sort(key=lambda row: -row[1])
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        [row[1] for row in rows],
        [row[2] for row in rows],
    )


def merged(boxes: list[Box], labels: list[int] | None = None, **options: float) -> list[tuple[int, ...]]:
    """Boxes, rounded, and labels of what is left."""
    labels = labels or [0] * len(boxes)
    found = merge_views([seen_by(view, boxes, labels, **options) for view in VIEWS], VIEWS, LIMITS)
    return sorted(
        (*map(round, box), label) for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
    )


def test_tiles_are_equal_cover_the_image_and_overlap() -> None:
    for image, tile, overlap in (
        ((2160, 3840), (640, 640), 0.2),
        ((701, 333), (200, 300), 0.5),
        ((99, 1000), (64, 64), 0),
    ):
        views = make_views(image, tile, overlap)
        assert views[0].window == (0, 0, image[1], image[0])
        covered = np.zeros(image, int)
        for x1, y1, x2, y2 in (view.window for view in views[1:]):
            assert (y2 - y1, x2 - x1) == (min(tile[0], image[0]), min(tile[1], image[1]))
            covered[y1:y2, x1:x2] += 1
        assert covered.min() == 1
        for axis in (0, 1):
            starts = sorted({view.window[axis] for view in views[1:]})
            side = min(tile[1 - axis], image[1 - axis])
            assert all(later - earlier <= side - math.ceil(side * overlap) + 1 for earlier, later in pairwise(starts))


def test_an_image_of_one_tile_is_one_view() -> None:
    assert [view.window for view in make_views((500, 400), TILE, 0.2)] == [(0, 0, 400, 500)]
    only = Detections([[0, 0, 9, 9]], [0.5], [0])
    assert merge_views([only], make_views((500, 400), TILE, 0.2), LIMITS) is only


@pytest.mark.parametrize(
    "box",
    [
        (120.0, 100.0, 180.0, 200.0),  # within one tile
        (460.0, 100.0, 520.0, 200.0),  # across one edge, whole in the next tile
        (430.0, 440.0, 560.0, 530.0),  # across a corner
        (350.0, 100.0, 700.0, 300.0),  # wider than the overlap: cut by every tile
        (300.0, 300.0, 1200.0, 700.0),  # larger than a tile
        (0.0, 0.0, 1500.0, 1000.0),  # the whole image
        (1440.0, 940.0, 1500.0, 1000.0),  # at the image's own corner, which cuts nothing
    ],
)
def test_an_object_anywhere_is_found_once_and_whole(box: Box) -> None:
    assert merged([box]) == [(*map(round, box), 0)]


def test_parts_become_one_box_where_no_view_shows_the_whole() -> None:
    """The whole image is too coarse to find it."""
    for box in ((350.0, 100.0, 700.0, 300.0), (380.0, 400.0, 560.0, 560.0)):
        assert merged([box], smallest=1e9) == [(*map(round, box), 0)]


def test_many_objects_at_random_places_are_each_found_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        boxes: list[Box] = []
        while len(boxes) < 12:
            x, y, width, height = rng.uniform([0, 0, 20, 20], [1400, 900, 420, 420])
            box = (float(x), float(y), float(min(x + width, 1500)), float(min(y + height, 1000)))
            if all(area(clip(box, other)) == 0 for other in boxes):
                boxes.append(box)
        labels = rng.integers(3, size=12).tolist()
        expected = sorted((*map(round, box), label) for box, label in zip(boxes, labels, strict=True))
        assert merged(boxes, labels) == expected


def test_neighbours_at_a_seam_stay_two() -> None:
    """Two objects side by side, one of them cut; and two that overlap by a third."""
    for first, second in (
        ((440.0, 100.0, 505.0, 250.0), (506.0, 100.0, 570.0, 250.0)),
        ((440.0, 100.0, 530.0, 250.0), (500.0, 100.0, 590.0, 250.0)),
    ):
        assert len(merged([first, second])) == 2


def test_classes_do_not_merge() -> None:
    box = (460.0, 100.0, 520.0, 200.0)
    assert merged([box, box], [0, 1]) == [(460, 100, 520, 200, 0), (460, 100, 520, 200, 1)]


def test_a_small_object_in_front_of_a_large_one_stays() -> None:
    large, small = (520.0, 50.0, 880.0, 430.0), (600.0, 300.0, 650.0, 400.0)
    assert merged([large, small]) == sorted([(520, 50, 880, 430, 0), (600, 300, 650, 400, 0)])


def test_what_a_tile_finds_in_an_object_that_it_cannot_show_goes() -> None:
    whole = Detections([[100, 50, 1400, 950]], [0.8], [0])
    wheel = Detections([[600, 600, 700, 700]], [0.6], [0])
    found = [
        whole,
        *(
            wheel if view.window[0] <= 600 <= view.window[2] - 100 and view.window[1] >= 500 else Detections.empty()
            for view in VIEWS[1:]
        ),
    ]
    left = merge_views(found, VIEWS, LIMITS)
    assert left.boxes.tolist() == [[100, 50, 1400, 950]]
    assert left.scores.tolist() == pytest.approx([0.8])


def test_a_whole_box_wins_over_a_better_part_and_takes_its_score() -> None:
    first, second = VIEWS[1], VIEWS[2]
    edge = first.window[2]
    part = Detections([[edge - 80, 100, edge, 200]], [0.9], [0])
    whole = Detections([[edge - 80, 100, edge + 20, 200]], [0.6], [0])
    left = merge_views([part, whole], [first, second], LIMITS)
    assert left.boxes.tolist() == [[edge - 80, 100, edge + 20, 200]]
    assert left.scores.tolist() == pytest.approx([0.9])


def slow_merge(found: list[Detections], views: list[View], thresh: float) -> list[tuple[Box, float, int]]:
    """The definition, one pair after the other."""
    rows = []
    for number, (part, view) in enumerate(zip(found, views, strict=True)):
        x1, y1, x2, y2 = view.window
        margin_x, margin_y = EDGE * (x2 - x1), EDGE * (y2 - y1)
        for (a, b, c, d), score, label in zip(
            part.boxes.tolist(), part.scores.tolist(), part.labels.tolist(), strict=True
        ):
            cut = (
                (x1 > 0 and abs(a - x1) <= margin_x)
                or (y1 > 0 and abs(b - y1) <= margin_y)
                or (x2 < view.image_size[1] and abs(c - x2) <= margin_x)
                or (y2 < view.image_size[0] and abs(d - y2) <= margin_y)
            )
            rows.append(((a, b, c, d), score, label, number, cut))
    rows.sort(key=lambda row: -row[1] * (CUT_WEIGHT if row[4] else 1))
    left, results = list(rows), []
    while left:
        first = left.pop(0)
        members, todo = [first], [first]
        while todo:
            member = todo.pop()
            same = [row for row in left if _same(member, row, views, thresh)]
            left = [row for row in left if row not in same]
            members += same
            todo += [row for row in same if first[4] and row[4]]
        parts = [row[0] for row in members if row[4]] if first[4] else [first[0]]
        box = (min(p[0] for p in parts), min(p[1] for p in parts), max(p[2] for p in parts), max(p[3] for p in parts))
        results.append((box, max(row[1] for row in members), first[2]))
    return sorted(results, key=lambda row: -row[1])


def _same(
    first: tuple[Box, float, int, int, bool], other: tuple[Box, float, int, int, bool], views: list[View], thresh: float
) -> bool:
    if first[2] != other[2] or first[3] == other[3] or area(clip(first[0], other[0])) == 0:
        return False
    region = clip(views[first[3]].window, views[other[3]].window)
    a, b = clip(first[0], region), clip(other[0], region)
    shared = area(clip(a, b))
    agrees = shared / (area(a) + area(b) - shared) > thresh
    agrees = agrees and shared / min(area(first[0]), area(other[0])) > SHARED
    return agrees or (area(a) < SHOWN * area(first[0]) and shared / area(other[0]) > INSIDE)


@pytest.mark.slow
def test_the_merge_is_its_definition() -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        found = []
        for view in VIEWS:
            x1, y1, x2, y2 = view.window
            corners = rng.uniform((x1, y1), (x2 - 20, y2 - 20), (15, 2))
            boxes = np.concatenate([corners, corners + rng.uniform(20, 300, (15, 2))], axis=1)
            boxes = boxes.clip((x1, y1, x1, y1), (x2, y2, x2, y2)).astype(np.float32)
            scores = np.sort(rng.uniform(0.01, 1, 15))[::-1].astype(np.float32)
            found.append(Detections(boxes, scores, rng.integers(2, size=15)))
        own = merge_views(found, VIEWS, LIMITS)
        expected = slow_merge(found, VIEWS, LIMITS.nms_thresh)
        assert 20 < len(expected) < 15 * len(VIEWS)
        assert own.scores.tolist() == pytest.approx([score for _, score, _ in expected])
        assert own.labels.tolist() == [label for _, _, label in expected]
        assert own.boxes == pytest.approx(np.array([box for box, _, _ in expected]), abs=1e-3)
        best = merge_views(found, VIEWS, Limits(nms_thresh=0.5, detections_per_img=7))
        assert best.boxes.tolist() == own.boxes[:7].tolist()


def test_a_detector_finds_small_objects_in_tiles_only(weights: Path) -> None:
    """Squares of 32 pixels, which the network's cells show in tiles of its input size."""
    image = np.zeros((256, 320, 3), np.uint8)
    image[96:128, 192:224] = RED
    image[224:256, 0:32] = GREEN
    plain = load_detector(weights, img_size=(64, 64))
    assert len(plain(image)) == 0
    for tile in (64, (64, 64), "auto"):
        found = load_detector(weights, img_size=(64, 64), tile=tile, overlap=0.5)(image)
        assert {
            (tuple(box), found.name_of(label))
            for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
        } == {
            ((192, 96, 224, 128), "red"),
            ((0, 224, 32, 256), "potted plant"),
        }


@pytest.mark.slow
def test_only_a_few_of_many_tiles_are_held_at_once(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load_detector(weights, img_size=(64, 64), tile=64, overlap=0.5)
    image = np.zeros((576, 576, 3), np.uint8)
    image[96:128, 192:224] = RED
    expected = detector(image)
    events: list[int] = []
    inner = detector.backend

    @dataclass(frozen=True)
    class Counted(Wrapped):
        def start(self, batch: Batch) -> Wait:
            wait = inner.start(batch)
            events.append(1)

            def waited() -> RawMaps:
                events.append(-1)
                return wait()

            return waited

    resized = resize_image

    def resizing(image: Image, size: tuple[int, int], mode: ResizeMode) -> tuple[Image, Placement]:
        tiles_ahead.append(len(tiles_ahead) + 1 - TILES_AT_ONCE * events.count(-1))
        return resized(image, size, mode)

    tiles_ahead: list[int] = []
    monkeypatch.setattr(predictor, "resize_image", resizing)
    detector.backend = Counted(inner)
    found = detector(image)
    assert found.boxes.tolist() == expected.boxes.tolist()
    assert len(tiles_ahead) == 1 + 17 * 17
    most = max(PASSES_AT_ONCE, 2 * inner.slots)
    assert max(accumulate(events)) <= most < events.count(1)
    assert max(tiles_ahead) <= most * TILES_AT_ONCE


def test_images_of_several_sizes_share_batches(weights: Path) -> None:
    rng = np.random.default_rng(0)
    images = [np.zeros((*size, 3), np.uint8) for size in ((256, 320), (64, 64), (128, 320))]
    for image in images:
        for _ in range(3):
            x, y = rng.integers(0, (image.shape[1] // 32, image.shape[0] // 32)) * 32
            image[y : y + 32, x : x + 32] = RED
    detector = load_detector(weights, img_size=(64, 64), tile="auto", overlap=0.5)
    together, alone = detector(images, batch_size=3), [detector(image) for image in images]
    assert [found.boxes.tolist() for found in together] == [found.boxes.tolist() for found in alone]
    assert min(len(found) for found in alone) > 0
    assert len(load_detector(weights, img_size=(64, 64))(images[1])) == len(alone[1])  # one tile: the plain run


@pytest.mark.parametrize("words", [["--tile", "8"], ["--tile", "big"], ["--overlap", ".95"], ["--overlap", "-1"]])
def test_impossible_tiles_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, capsys, *words).code == 2


def test_impossible_settings_are_refused(weights: Path) -> None:
    for settings in ({"tile": 8}, {"tile": (640, 8)}, {"overlap": 1.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            load_detector(weights, **settings)
