"""COCO's metrics against pycocotools, on random scenes and at the edges."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from tests.evaluation.scenes import Scene, Style, found, random_scene, table_of, truth
from yolofpn.evaluation.coco import average_recall, interpolated_precision, match_coco, precision_at_recall
from yolofpn.evaluation.metrics import DetectionMetrics, class_agnostic_recall
from yolofpn.structures import Detections, Target

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def pycocotools(scene: Scene, classes: int, *, max_detections: tuple[int, ...] = (1, 10, 100), use: bool = True) -> Any:
    """COCOeval after ``accumulate`` (``use``: with classes)."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for detections, target in scene:
        for box, label, ignore, area in zip(
            target.boxes.double(), target.labels.tolist(), target.ignore.tolist(), target.areas.tolist(), strict=True
        ):
            corner, sides = box[:2].tolist(), (box[2:] - box[:2]).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": target.image_id,
                    "category_id": label,
                    "bbox": corner + sides,
                    "area": area,
                    "iscrowd": int(ignore),
                }
            )
        results += detections.to_coco(target.image_id)
    ground_truth = COCO()
    ground_truth.dataset = {
        "info": {},
        "images": [{"id": target.image_id} for _, target in scene],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in range(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        detected = ground_truth.loadRes(results) if results else _no_results(ground_truth)
        evaluation = COCOeval(ground_truth, detected, "bbox")
        evaluation.params.maxDets = list(max_detections)
        evaluation.params.useCats = int(use)
        evaluation.evaluate()
        evaluation.accumulate()
        if max_detections == (1, 10, 100):
            evaluation.summarize()
    return evaluation


def _no_results(ground_truth: Any) -> Any:
    """What ``loadRes`` cannot give: results without any detection."""
    nothing = COCO()
    nothing.dataset = {**ground_truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def assert_equals_pycocotools(scene: Scene, classes: int) -> None:
    """The arrays behind the numbers, the twelve numbers and the numbers of each class."""
    expected = pycocotools(scene, classes)
    table = table_of(scene, classes)
    matches = match_coco(table)
    precision = precision_at_recall(table, matches)  # [C, A, T, R]
    recall = average_recall(table, matches, (1, 10, 100))  # [C, A, T, L]
    np.testing.assert_allclose(precision.transpose(2, 3, 0, 1), expected.eval["precision"][..., 2], rtol=0, atol=1e-9)
    np.testing.assert_allclose(recall.transpose(2, 0, 1, 3), expected.eval["recall"], rtol=0, atol=1e-9)

    metrics = DetectionMetrics([str(label) for label in range(classes)])
    for image in scene:
        metrics.add(*image)
    result = metrics.compute()
    np.testing.assert_allclose([result.values[name] for name in NAMES], expected.stats, rtol=0, atol=1e-9)
    for label, of_class in enumerate(result.per_class):
        its_precision = expected.eval["precision"][:, :, label, 0, 2]
        assert of_class.values["AP"] == pytest.approx(its_precision.mean(), abs=1e-9)
        assert of_class.values["AP50"] == pytest.approx(its_precision[0].mean(), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools_with_many_ties(seed: int) -> None:
    assert_equals_pycocotools(random_scene(seed), 4)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools_with_fractions_of_pixels(seed: int) -> None:
    assert_equals_pycocotools(random_scene(seed, Style(whole_pixels=False, score_steps=10**6, largest=300)), 4)


@pytest.mark.slow
def test_equals_pycocotools_in_dense_images() -> None:
    scene = random_scene(0, Style(images=2, classes=2, objects=60, detections=400, largest=60))
    assert max(len(detections) for detections, _ in scene) > 300  # over 100 of the one class that has objects
    assert_equals_pycocotools(scene, 2)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_with_one_image(seed: int) -> None:
    assert_equals_pycocotools(random_scene(seed, Style(images=1)), 4)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_with_only_crowds(seed: int) -> None:
    scene = random_scene(seed, Style(crowd=1.0))
    assert_equals_pycocotools(scene, 4)
    assert set(precision_at_recall(table_of(scene, 4), match_coco(table_of(scene, 4))).flat) == {-1.0}


def test_equals_pycocotools_without_detections() -> None:
    scene: Scene = [(Detections.empty(), target) for _, target in random_scene(0)]
    assert_equals_pycocotools(scene, 4)


def test_equals_pycocotools_without_ground_truth() -> None:
    scene: Scene = [(detections, truth(target.image_id)) for detections, target in random_scene(0)]
    assert_equals_pycocotools(scene, 4)


def test_equals_pycocotools_at_the_borders_of_the_area_ranges() -> None:
    """1024 square pixels are small and medium, 9216 medium and large, for objects and for detections."""
    squares = [(0, 0, 32, 32), (50, 50, 146, 146), (200, 200, 216, 216)]
    detections = found(*(((*box[:2], box[2], box[3]), 0.9 - 0.1 * row, 0) for row, box in enumerate(squares)))
    elsewhere = found(((160, 0, 192, 32), 0.95, 0), ((300, 0, 396, 96), 0.97, 0))
    scene = [(detections, truth(1, *((box, 0) for box in squares))), (elsewhere, truth(2))]
    assert_equals_pycocotools(scene, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_class_agnostic_recall_equals_pycocotools(seed: int) -> None:
    style = Style(images=1, objects=25, detections=1200, largest=60) if seed == 1 else Style()
    scene = random_scene(seed, style)
    limits = (1, 100, 1000)
    recall = pycocotools(scene, 4, max_detections=limits, use=False).eval["recall"]  # [T, 1, A, 3]
    expected = {
        f"AR{limit}{size}": _mean(recall[:, 0, area, place])
        for place, limit in enumerate(limits)
        for area, size in enumerate(("", "s", "m", "l"))
        if limit > 1
    }
    assert class_agnostic_recall(table_of(scene, 4)) == pytest.approx(expected, abs=1e-9)


def _mean(values: NDArray[np.float64]) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def test_a_crowd_takes_any_number_of_detections() -> None:
    crowd, lone = (0, 0, 100, 100), (200, 200, 240, 240)
    inside = [((10 * n, 0, 10 * n + 10, 20), 0.9, 0) for n in range(10)]
    scene = [(found(*inside, (lone, 0.5, 0)), truth(1, (crowd, 0), (lone, 0), ignore=[0]))]
    table = table_of(scene, 1)
    assert precision_at_recall(table, match_coco(table))[0, 0].min() == pytest.approx(1.0)


def test_of_equal_ious_the_later_object_is_taken() -> None:
    """The first detection lies midway between both objects; the second one reaches only the later object."""
    objects = (((0, 0, 100, 100), 0), ((20, 0, 120, 100), 0))
    scene = [(found(((10, 0, 110, 100), 0.9, 0), ((45, 0, 145, 100), 0.8, 0)), truth(1, *objects))]
    assert_equals_pycocotools(scene, 1)
    table = table_of(scene, 1)
    assert average_recall(table, match_coco(table), (100,))[0, 0, 0] == pytest.approx(0.5)


def test_interpolated_precision_by_hand() -> None:
    """Right, wrong, right of 4 objects: precision 1 up to recall 0.25, then 2/3 up to 0.5, then none."""
    precision = interpolated_precision(np.array([True, False, True]), np.array([False, True, False]), 4)
    assert precision[:26] == pytest.approx(1.0)
    assert precision[26:51] == pytest.approx(2 / 3)
    assert precision[51:] == pytest.approx(0.0)


@pytest.mark.slow
def test_real_annotations_detect_themselves(data_dir: Any) -> None:
    """Each object of coco128 as its own detection: what is annotated is found, crowds are no mistakes."""
    annotations = next((data_dir / "coco128" / "annotations").glob("*.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(annotations)
    labels = {category: label for label, category in enumerate(sorted(coco.getCatIds()))}
    scene: Scene = []
    for image_id in coco.getImgIds()[::12]:
        rows = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        boxes = torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        target = Target(
            boxes=boxes,
            labels=torch.tensor([labels[row["category_id"]] for row in rows], dtype=torch.int64),
            ignore=torch.tensor([bool(row["iscrowd"]) for row in rows], dtype=torch.bool),
            areas=torch.tensor([row["area"] for row in rows], dtype=torch.float32),
            image_id=image_id,
        )
        scene.append((Detections(boxes, torch.linspace(1, 0.5, len(boxes)), target.labels), target))
    assert_equals_pycocotools(scene, len(labels))
    jittered = [(replace(each, boxes=each.boxes + 3), target) for each, target in scene]
    assert_equals_pycocotools(jittered, len(labels))
    assert any(target.ignore.any() for _, target in scene)
    metrics = DetectionMetrics(list(map(str, labels)))
    for image in scene:
        metrics.add(*image)
    assert metrics.compute().values["AP"] == pytest.approx(1.0)
