"""The collector: order, batches, processes and what it says."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from tests.evaluation.scenes import Scene, Style, found, random_scene, truth
from yolofpn.evaluation.metrics import DetectionMetrics, Metrics, crowded_images
from yolofpn.structures import Detections, Target

NAMES = ("ant", "bee", "cat", "dog")


def collect(scene: Scene) -> DetectionMetrics:
    metrics = DetectionMetrics(NAMES)
    for image in scene:
        metrics.add(*image)
    return metrics


def without_time(metrics: Metrics) -> Metrics:
    return replace(metrics, seconds=0.0)


def compute(metrics: DetectionMetrics) -> Metrics:
    return without_time(metrics.compute(voc=True, proposals=True))


def test_order_of_images_does_not_matter() -> None:
    scene = random_scene(3)
    shuffled = scene.copy()
    random.Random(0).shuffle(shuffled)
    assert [target.image_id for _, target in scene] != [target.image_id for _, target in shuffled]
    assert compute(collect(shuffled)) == compute(collect(scene))


def test_order_of_detections_does_not_matter() -> None:
    scene = random_scene(3, Style(score_steps=10**6))
    turned = [(detections[torch.arange(len(detections)).flip(0)], target) for detections, target in scene]
    assert compute(collect(turned)) == compute(collect(scene))


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_merge_to_the_same_numbers(processes: int) -> None:
    scene = random_scene(5)
    together = DetectionMetrics(NAMES)
    for rank in range(processes):
        together.merge(collect(scene[rank::processes]).state())
    assert len(together) == len(scene)
    assert compute(together) == compute(collect(scene))


def test_state_is_plain_tensors_even_if_nothing_was_collected() -> None:
    state = DetectionMetrics(NAMES).state()
    assert all(type(value) is torch.Tensor for value in state.values())
    together = collect(random_scene(6))
    before = compute(together)
    together.merge(state)
    assert compute(together) == before


def test_an_image_without_boxes_survives_the_merge() -> None:
    together = DetectionMetrics(NAMES)
    together.merge(collect([(Detections.empty(), truth(9))]).state())
    assert len(together) == 1
    assert together.compute().images == 1


@pytest.mark.parametrize("second", [truth(0, ((5, 5, 10, 10), 1)), truth(0, ((0, 0, 10, 10), 1))])
def test_same_id_for_two_images_is_refused(second: Target) -> None:
    metrics = DetectionMetrics(NAMES)
    metrics.add(Detections.empty(), truth(0, ((0, 0, 10, 10), 1)))
    with pytest.raises(ValueError, match="have the id 0"):
        metrics.add(Detections.empty(), second)


def test_two_backgrounds_of_one_id_are_refused_so_that_no_false_positive_is_lost() -> None:
    metrics = collect([(found(((0, 0, 10, 10), 0.9, 1)), truth(7))])
    with pytest.raises(ValueError, match="have the id 7"):
        metrics.merge(collect([(found(((20, 0, 30, 10), 0.9, 1)), truth(7))]).state())


def test_more_objects_than_coco_counts_detections_are_told_and_measured_beside() -> None:
    boxes = [
        (10.0 * column, 10.0 * row, 10.0 * column + 8, 10.0 * row + 8) for row in range(10) for column in range(15)
    ]
    scene = [(found(*((box, 0.9, 1) for box in boxes)), truth(1, *((box, 1) for box in boxes)))]
    metrics = collect(scene)
    assert metrics.compute().values["AP"] == pytest.approx(67 / 101)  # 100 of 150 found: recall 0 to .66
    crowded = crowded_images(metrics.table(), 300)
    assert crowded is not None
    assert (crowded.of_a_class, crowded.most_of_a_class, crowded.in_all) == (1, 150, 0)
    assert crowded.values["AP"] == 1
    fewer = crowded_images(metrics.table(), 120)
    assert fewer is not None
    assert (fewer.in_all, fewer.most_in_all) == (1, 150)
    assert fewer.values["AP"] == pytest.approx(81 / 101)
    assert crowded_images(collect(random_scene(3)).table(), 300) is None


@pytest.mark.parametrize("label", [-1, 4])
def test_unknown_label_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 3"):
        DetectionMetrics(NAMES).add(found(((0, 0, 10, 10), 0.5, label)), truth(0))
    with pytest.raises(ValueError, match=r"0 \.\. 3"):
        DetectionMetrics(NAMES).add(Detections.empty(), truth(0, ((0, 0, 10, 10), label)))


def test_images_are_not_kept() -> None:
    detections = replace(found(((0, 0, 10, 10), 0.5, 0)), load_image=lambda: torch.zeros(0).numpy())
    metrics = DetectionMetrics(NAMES)
    metrics.add(detections, truth(0))
    (kept, _), *_ = metrics._images.values()
    assert kept.load_image is None


def test_json_has_the_agreed_keys() -> None:
    metrics = collect(random_scene(7))
    always = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    always |= {"per_class", "images", "seconds"}
    assert set(metrics.compute().to_json()) == always
    plain = json.loads(json.dumps(metrics.compute(voc=True, proposals=True).to_json()))
    assert set(plain) == always | {"AR1000", "voc07_mAP", "voc10_mAP"}
    assert [each["name"] for each in plain["per_class"]] == list(NAMES)
    assert plain["per_class"][3]["AP"] == plain["per_class"][3]["AP50"] == -1.0  # no objects of the last class
    assert plain["images"] == 12


def test_everything_found_is_one_and_the_counts_agree() -> None:
    bee, cat = (10, 10, 40, 40), (50, 50, 180, 180)
    scene = [
        (found((bee, 0.9, 1), (cat, 0.8, 2)), truth(1, (bee, 1), (cat, 2))),
        (found((cat, 0.7, 2), (bee, 0.2, 2)), truth(2, (cat, 2))),
    ]
    result = collect(scene).compute(report_thresh=0.25, voc=True, proposals=True)
    assert result.values == pytest.approx(
        dict.fromkeys(result.values, 1.0) | {"APm": -1.0, "ARm": -1.0}
    )  # a bee is small, a cat is large, nothing is in between
    assert [each.objects for each in result.per_class] == [0, 1, 2, 0]
    assert (result.counts.true_positives, result.counts.false_positives, result.counts.false_negatives) == (3, 0, 0)
    assert collect(scene).compute(report_thresh=0.1).counts.false_positives == 1


def test_nothing_collected_is_minus_one() -> None:
    result = DetectionMetrics(NAMES).compute(voc=True, proposals=True)
    assert set(result.values.values()) == {-1.0}
    assert result.images == 0
    assert result.counts.f1 == 0.0
