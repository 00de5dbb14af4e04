"""Suspected label errors: by hand, on squares that a small network finds, and on COCO128 with known mistakes."""

from __future__ import annotations

import csv
import html
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.cli.label_scenes import paint, write
from tests.commands import call
from tests.data.small_dataset import write_dataset
from tests.evaluation.corrupted_labels import corrupt
from tests.evaluation.squares import write_finder
from yolofpn.__main__ import main as yolofpn
from yolofpn.data.class_names import ClassMatch
from yolofpn.data.images import read_image
from yolofpn.data.layouts import open_data
from yolofpn.evaluation.closer_views import label_views, look_closer
from yolofpn.evaluation.learned_ranking import Examples, learn_probability
from yolofpn.evaluation.mistakes import Mistake, Suggestion, find_mistakes
from yolofpn.evaluation.mistakes_page import draw_mistakes
from yolofpn.evaluation.planted_mistakes import plant_mistakes
from yolofpn.evaluation.run_detector import RunSettings
from yolofpn.evaluation.table import build_table
from yolofpn.structures import Detections, Image, Limits, Target

A, B, FAR, SHIFTED = [10.0, 10, 30, 30], [50.0, 50, 90, 80], [100.0, 10, 130, 40], [18.0, 14, 38, 34]

ODD = "cat%20sat#1.png"


def target(objects: list[tuple[int, list[float]]], image_id: int, ignore: bool = False) -> Target:
    boxes = torch.tensor([box for _, box in objects]).reshape(-1, 4)
    return Target(
        boxes=boxes,
        labels=torch.tensor([label for label, _ in objects], dtype=torch.int64),
        ignore=torch.full((len(objects),), ignore),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        image_id=image_id,
    )


def detections(*found: tuple[int, list[float], float]) -> Detections:
    boxes = torch.tensor([box for _, box, _ in found]).reshape(-1, 4)
    return Detections(boxes, torch.tensor([s for *_, s in found]), torch.tensor([label for label, *_ in found]))


def ranked(objects: list[tuple[int, list[float]]], found: Detections, ignore: bool = False) -> list[Suggestion]:
    """Image 7, among images whose labels the detector confirms."""
    right = [(i, detections((0, A, 0.9), (1, B, 0.9)), target([(0, A), (1, B)], i)) for i in range(5)]
    table = build_table([*right, (7, found, target(objects, 7, ignore))], 2)
    return [each for each in find_mistakes(table) if each.image_id == 7]


def test_each_kind_of_mistake() -> None:
    (missed,) = ranked([(0, A)], detections((0, A, 0.9), (1, B, 0.8)))[:1]
    assert (missed.kind, missed.label, missed.detected_label) == (Mistake.MISSED, None, 1)
    assert missed.detected_box == tuple(B) and missed.score == pytest.approx(0.8)
    (renamed,) = ranked([(1, A)], detections((0, A, 0.9)))
    assert (renamed.kind, renamed.label, renamed.detected_label) == (Mistake.RENAMED, 1, 0)
    (moved,) = ranked([(0, SHIFTED)], detections((0, A, 0.9)))
    assert (moved.kind, moved.box, moved.detected_box) == (Mistake.MOVED, tuple(SHIFTED), tuple(A))
    assert moved.iou == pytest.approx(12 * 16 / (800 - 12 * 16))
    (invented,) = ranked([(0, FAR)], detections())
    assert (invented.kind, invented.box) == (Mistake.INVENTED, tuple(FAR))


def test_the_surest_disagreement_comes_first() -> None:
    wrong = ranked([(1, A)], detections((0, A, 0.9), (0, B, 0.3), (1, FAR, 0.6)))
    assert [each.kind for each in wrong] == [Mistake.RENAMED, Mistake.MISSED, Mistake.MISSED]
    assert [each.score for each in wrong] == pytest.approx([0.9, 0.6, 0.3])


def test_a_class_that_is_often_found_where_nothing_is_counts_less() -> None:
    trusted = [(i, detections((0, A, 0.9)), target([(0, A)], i)) for i in range(5)]
    false = [(10 + i, detections((1, B, 0.7)), target([], 10 + i)) for i in range(9)]
    table = build_table([*trusted, *false, (7, detections((0, FAR, 0.6)), target([], 7))], 2)
    assert find_mistakes(table)[0].image_id == 7


def test_nothing_is_suspected_where_labels_are_confirmed_or_ignored() -> None:
    assert all(each.suspicion < 0.1 for each in ranked([(0, A)], detections((0, A, 0.95))))
    assert ranked([(0, A)], detections((0, A, 0.9), (1, B, 0.01)), ignore=True) == []
    part = [12.0, 12, 15, 28]  # of A: 48 of its 400 pixels
    assert not [each for each in ranked([(0, A)], detections((0, A, 0.9), (0, part, 0.8))) if each.score == 0.8]
    (other,) = ranked([(0, A)], detections((0, A, 0.9), (1, part, 0.8)))[:1]
    assert (other.kind, other.detected_label) == (Mistake.MISSED, 1)  # something else may well be in front of A
    assert find_mistakes(build_table([(1, detections(), target([], 1))], 2)) == []


def test_the_page_and_the_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first has a missing label and a square of the wrong class; b.png is right; c.png has a shifted label."""
    weights = write_finder(tmp_path / "finder.safetensors")
    squares = {
        ODD: [("red", (16, 8, 24, 16)), ("blue", (32, 24, 40, 32))],
        "b.png": [("red", (0, 0, 8, 8)), ("blue", (48, 48, 56, 56))],
        "c.png": [("red", (32, 32, 40, 40))],
    }
    labels = {
        ODD: [("red", (32, 24, 40, 32))],
        "b.png": squares["b.png"],
        "c.png": [("red", (36, 34, 44, 42))],
    }
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, painted) in enumerate(squares.items()):
        paint(tmp_path / "data/images" / name, painted)
        images.append({"id": number, "file_name": name, "width": 64, "height": 64})
        for colour, (x1, y1, x2, y2) in labels[name]:
            entry = {
                "image_id": number,
                "category_id": ("red", "blue").index(colour),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **entry})
    tree = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}],
    }
    write(tmp_path / "data/annotations/instances_train.json", json.dumps(tree))
    out = tmp_path / "out"
    words = ("mistakes", "--data", tmp_path / "data", "--weights", weights, "--workers", "0", "--backend", "torch")
    outcome = call(yolofpn, capsys, *words, "--quick", "--output", out)
    assert outcome.code == 0
    records = json.loads((out / "mistakes.json").read_text())
    found = {(each["file_name"], each["kind"], each["label"], each["detected"]) for each in records[:3]}
    assert found == {
        (ODD, "wrong class", "red", "blue"),
        (ODD, "missing label", None, "red"),
        ("c.png", "badly placed", "red", "red"),
    }
    with (out / "mistakes.csv").open(newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == [str(n + 1) for n in range(len(records))]
    assert sorted((out / "images.txt").read_text().splitlines()[:2]) == ["c.png", ODD]
    page = (out / "index.html").read_text()
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert any("cat%2520sat%231" in source for source in sources)
    assert len(sources) >= 2 and all(
        (out / urllib.parse.unquote(html.unescape(source))).is_file() for source in sources
    )
    shown = read_image(out / urllib.parse.unquote(sources[0]))
    assert max(shown.shape) == 640
    assert call(yolofpn, capsys, *words, "--output", tmp_path / "one", "--count", "1").code == 0  # and closer views
    assert len(list((tmp_path / "one/images").iterdir())) == 1
    assert call(yolofpn, capsys, *words, "--split", "nothing").code == 2


def scattered(rng: np.random.Generator, right: float) -> tuple[list[tuple[int, Detections, Target]], int]:
    """Images of a grid of labels, a detection for each; ``right`` of those of class 0 are of its class, others of 1."""
    images = []
    for image_id in range(20):
        objects, found = [], []
        for place in range(9):
            x, y, label = 40.0 * (place % 3), 40.0 * (place // 3), place % 2
            box = [x, y, x + 20, y + 20]
            objects.append((label, box))
            seen = label if label == 1 or rng.random() < right else 1
            found.append((seen, box, float(rng.uniform(0.5, 0.9))))
        images.append((image_id, detections(*found), target(objects, image_id)))
    return images, 9 * len(images)


@pytest.mark.slow  # it learns
def test_what_a_sign_says_is_learned_from_planted_mistakes() -> None:
    """This detector often takes class 0 for 1, and never 1 for 0."""
    images, _ = scattered(np.random.default_rng(0), right=0.6)
    found, labels = images[7][1:]
    first = int(np.flatnonzero(found.labels == 0)[0])
    wrong = Target(
        boxes=labels.boxes,
        labels=torch.tensor([1 if row == first else int(each) for row, each in enumerate(labels.labels)]),
        ignore=labels.ignore,
        areas=labels.areas,
        image_id=7,
    )
    images[7] = (7, found, wrong)
    suggestions = find_mistakes(build_table(images, 2))
    assert (suggestions[0].image_id, suggestions[0].box) == (7, tuple(labels.boxes[first].tolist()))
    assert suggestions[0].kind == Mistake.RENAMED


@pytest.mark.slow  # it learns
def test_many_missing_labels_stay_first() -> None:
    """A third of the labels are missing, far more than are planted; the detector finds everything."""
    images, _ = scattered(np.random.default_rng(2), right=1)
    kept = [
        (image_id, found, target([(int(labels.labels[k]), labels.boxes[k].tolist()) for k in range(6)], image_id))
        for image_id, found, labels in images
    ]
    suggestions = find_mistakes(build_table(kept, 2))
    assert [each.kind for each in suggestions[:60]] == [Mistake.MISSED] * 60
    assert not [each for each in suggestions[60:] if each.kind == Mistake.MISSED]


@pytest.mark.slow
def test_the_rule_decides_where_nothing_can_be_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are seen in one image only, so most leave no trace if dropped; something is detected beside the others."""
    images, _ = scattered(np.random.default_rng(3), right=1)
    aside = detections((0, [200, 200, 220, 220], 0.4))
    table = build_table([images[0], *((image_id, aside, labels) for image_id, _, labels in images[1:])], 2)
    found = find_mistakes(table)
    assert sum(each.kind == Mistake.MISSED for each in found) == len(images) - 1
    monkeypatch.setattr("yolofpn.evaluation.mistakes.FEWEST_LABELS", 10**9)
    assert found == find_mistakes(table)
    nothing = build_table([(image_id, detections(), labels) for image_id, _, labels in images], 2)
    assert find_mistakes(nothing) == []


def test_planted_mistakes() -> None:
    images, count = scattered(np.random.default_rng(1), right=1)
    table = build_table(images, 2)
    ignored = np.arange(count) % 9 == 4
    objects = replace(table.objects, ignore=ignored)
    planted = plant_mistakes(objects, seed=3)
    total = round(0.1 * (~ignored).sum())
    assert len(planted.dropped) + planted.wrong.sum() == total == 16
    assert len(planted.dropped) == 6 and len(planted.objects) == count - 6
    assert not planted.dropped.ignore.any() and not planted.objects.ignore[planted.wrong].any()
    assert planted.objects.ignore.sum() == ignored.sum()
    order = np.lexsort((planted.objects.labels, planted.objects.images))
    assert (order == np.arange(len(order))).all()
    before = {(int(i), *box) for i, box in zip(objects.images, objects.boxes.tolist(), strict=True)}
    moved = [
        row
        for row in np.flatnonzero(planted.wrong).tolist()
        if (int(planted.objects.images[row]), *planted.objects.boxes[row].tolist()) not in before
    ]
    assert len(moved) == 5  # the other five have another class
    one_class = replace(objects, labels=np.zeros_like(objects.labels))
    assert plant_mistakes(one_class, seed=3).wrong.sum() == 5  # there is no other class to give


@pytest.mark.slow
def test_learned_probabilities_follow_the_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    examples = [Examples(features, features[:, 1] > 1, np.zeros(400, np.int64))]
    asked = np.array([[0.0, -1, 0], [0, 0, 3], [0, 2, 0]])
    low, middle, high = probability = learn_probability(examples, asked)
    assert (probability == learn_probability(examples, asked)).all()
    assert low < 0.1 > middle and high > 0.9
    assert learn_probability(examples, np.zeros((0, 3))).shape == (0,)


class Red:
    """Detects each red square, whatever its size, in BGR images; a single class."""

    limits = Limits()

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def predict(self, images: Sequence[Image], limits: Limits) -> list[Detections]:
        assert limits.score_thresh == 0.01
        self.sizes += [image.shape[:2] for image in images]
        return [self._squares(image) for image in images]

    def _squares(self, image: Image) -> Detections:
        mask = ((image[..., 2] > 128) & (image[..., 1] < 128)).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found = [(0, [float(v) for v in (x, y, x + w, y + h)], 0.9) for x, y, w, h, _ in stats[1:].tolist()]
        return detections(*found)


def test_closer_views(tmp_path: Path) -> None:
    """A labelled square in the corner, one without label across the middle; and a torn file."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[4:14, 4:14, 2] = image[45:57, 95:107, 2] = 255
    (tmp_path / "data/images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "data/images/a.png"), image)
    (tmp_path / "data/images/b.png").write_bytes((tmp_path / "data/images/a.png").read_bytes()[:60])
    write(tmp_path / "data/labels/a.txt", "0 0.045 0.09 0.05 0.1\n")
    write(tmp_path / "data/labels/b.txt", "0 0.045 0.09 0.05 0.1\n")
    write(tmp_path / "data/classes.txt", "red\n")
    dataset = open_data(tmp_path / "data").load("all")
    red = Red()
    found, enlarged = look_closer(red, dataset, ClassMatch("name", (0,), (), ()), RunSettings(4, 0, 0.01))  # type: ignore[arg-type]
    (index,) = [k for k in range(2) if k not in found.failures]
    (_, whole, labels), *_ = [each for each in found.metrics.images() if each[0] == int(dataset.image_ids[index])]
    assert sorted(whole.boxes.tolist()) == [[4, 4, 14, 14], [95, 45, 107, 57]]
    assert enlarged.boxes.tolist() == [[4, 4, 14, 14]]
    assert [view.window for view in label_views(labels, (100, 200))] == [(0, 0, 33, 33)]  # 48 pixels around (9, 9)
    assert Counter(red.sizes) == {(100, 200): 2, (56, 112): 4, (39, 77): 9, (33, 33): 1}
    assert label_views(labels, (30, 30)) == []  # nothing can be enlarged


def test_label_and_detection_are_drawn_in_their_colours() -> None:
    image = np.full((320, 320, 3), 128, np.uint8)
    moved = Suggestion(Mistake.MOVED, 1, 0, 0, (10, 10, 100, 100), 0, (150, 150, 300, 300), 0.9, 0.0)
    drawn = draw_mistakes(image, [moved], np.zeros((0, 4)))
    assert drawn.shape == (640, 640, 3) and drawn[100, 20].argmax() == 2 and drawn[400, 300].argmax() == 1


def test_corruptions_are_what_they_say(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", count=12)
    changed, done = corrupt(dataset, 0.5, seed=1)
    kinds = [each.kind for each in done]
    assert kinds == ["dropped", "renamed", "shifted"] * 2
    assert len(changed.boxes) == len(dataset.boxes) - 2 == changed.offsets[-1]
    for each in done[1:3]:
        index = changed.image_ids.tolist().index(each.image_id)
        target, original = changed.target(index), dataset.target(index)
        row = target.boxes.tolist().index(list(each.box))
        assert (list(each.box) in original.boxes.tolist()) == (each.kind == "renamed")
        assert (int(target.labels[row]) != each.label) == (each.kind == "renamed")
    again, _ = corrupt(dataset, 0.5, seed=1)
    assert (again.boxes == changed.boxes).all() and (again.labels == changed.labels).all()
