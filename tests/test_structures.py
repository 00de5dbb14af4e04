"""Detections: a sequence that filters, counts, converts and draws; targets that check their shapes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from numpy.typing import NDArray

from yolofpn import drawing
from yolofpn.errors import UserError
from yolofpn.structures import Detections, Frame, Image, Target

NAMES = ("cat", "dog", "bird")


def four() -> Detections:
    """dog .9, cat .75, dog .5, bird .25; detection i has its left edge at 10 * i."""
    lefts = torch.arange(4.0) * 10
    boxes = torch.stack([lefts, torch.full((4,), 2.0), lefts + 6, torch.full((4,), 5.0)], dim=1)
    return Detections(boxes, torch.tensor([0.9, 0.75, 0.5, 0.25]), torch.tensor([1, 0, 1, 2]), names=NAMES)


def lefts(detections: Detections) -> list[float]:
    return [float(left) for left in detections.boxes[:, 0]]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [0]),
        (3, [30]),
        (-1, [30]),
        (-4, [0]),
        (np.int64(2), [20]),
        (np.int64(-1), [30]),
        (torch.tensor(1), [10]),
        (slice(1, 3), [10, 20]),
        (slice(None, None, 2), [0, 20]),
        (slice(9, None), []),
        ([2, 0], [20, 0]),
        ([-1], [30]),
        ([], []),
        ([True, False, False, True], [0, 30]),
        (np.array([2, 3]), [20, 30]),
        (np.array([False, True, False, False]), [10]),
        (torch.tensor([3, 3]), [30, 30]),
        (torch.tensor([False] * 4), []),
    ],
    ids=str,
)
def test_every_kind_of_index_gives_detections(index: Any, expected: list[float]) -> None:
    picked = four()[index]
    assert isinstance(picked, Detections)
    assert lefts(picked) == expected
    assert picked.names == NAMES
    assert len(picked.scores) == len(picked.labels) == len(picked) == len(expected)


@pytest.mark.parametrize("index", [4, -5, [4], [True, False]], ids=str)
def test_an_index_out_of_range(index: Any) -> None:
    with pytest.raises(IndexError):
        four()[index]


def test_iteration_gives_one_at_a_time() -> None:
    assert [detection.labels.tolist() for detection in four()] == [[1], [0], [1], [2]]
    assert [len(detection) for detection in Detections.empty()] == []


def test_masks_by_score_and_label() -> None:
    found = four()
    assert lefts(found[found.scores > 0.6]) == [0, 10]
    assert lefts(found[found.labels == 1]) == [0, 20]


def test_filter_by_score_keeps_what_exceeds_it() -> None:
    assert lefts(four().filter(score_thresh=0.5)) == [0, 10]
    assert lefts(four().filter(score_thresh=0.49)) == [0, 10, 20]


def test_filter_by_names_and_labels() -> None:
    assert lefts(four().filter(classes=("dog",))) == [0, 20]
    assert lefts(four().filter(classes="dog")) == [0, 20]
    assert lefts(four().filter(classes=0)) == [10]
    assert lefts(four().filter(classes=(0, "bird"))) == [10, 30]
    assert lefts(four().filter(classes=("dog",), score_thresh=0.6)) == [0]
    assert len(four().filter(classes=())) == 0
    assert lefts(four().filter(classes=(7,))) == []


def test_filter_by_a_name_that_is_none_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="classes"):
        four().filter(classes=("cow",))
    with pytest.raises(ValueError, match="classes"):
        Detections.empty().filter(classes=("cow",))


def test_counts_come_most_frequent_first() -> None:
    assert list(four().counts().items()) == [("dog", 2), ("cat", 1), ("bird", 1)]
    assert Detections.empty().counts() == {}


def test_repr_says_what_was_found() -> None:
    assert repr(four()) == "Detections(4: dog 0.90, cat 0.75, dog 0.50, bird 0.25)"
    assert repr(four()[:0]) == "Detections(nothing found)"
    nameless = Detections(torch.zeros(1, 4), torch.tensor([0.5]), torch.tensor([7]))
    assert repr(nameless) == "Detections(1: 7 0.50)"


def test_coco_boxes_are_left_top_width_height_in_the_data_sets_ids() -> None:
    boxes = torch.tensor([[1.5, 2.0, 11.5, 22.25]])
    one = Detections(boxes, torch.tensor([0.5]), torch.tensor([1]), NAMES, category_ids=(17, 18, 90))
    assert one.to_coco(42) == [{"image_id": 42, "category_id": 18, "bbox": [1.5, 2.0, 10.0, 20.25], "score": 0.5}]
    assert one.boxes.tolist() == [[1.5, 2.0, 11.5, 22.25]], "the detections themselves stay"
    assert four()[0].to_coco(1)[0]["category_id"] == 1
    assert Detections.empty().to_coco(1) == []


def test_pandas_table() -> None:
    table = four().to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name"]
    assert table.iloc[1].tolist() == [10.0, 2.0, 16.0, 5.0, 0.75, 0, "cat"]
    empty = Detections.empty().to_pandas()
    assert list(empty.columns) == list(table.columns)
    assert len(empty) == 0


def test_supervision_detections() -> None:
    import supervision  # takes a second

    converted = four().to_supervision()
    assert isinstance(converted, supervision.Detections)
    np.testing.assert_array_equal(converted.xyxy[3], [30, 2, 36, 5])
    assert converted.confidence is not None
    assert converted.class_id is not None
    np.testing.assert_array_equal(converted.confidence, np.array([0.9, 0.75, 0.5, 0.25], dtype=np.float32))
    assert converted.class_id.tolist() == [1, 0, 1, 2]
    assert list(converted.data["class_name"]) == ["dog", "cat", "dog", "bird"]
    assert len(Detections.empty().to_supervision()) == 0


def gray_image() -> Image:
    return np.full((60, 80, 3), 90, dtype=np.uint8)


def test_draw_gives_a_copy() -> None:
    image = gray_image()
    drawn = four().draw(image)
    assert drawn.shape == image.shape
    assert (drawn != image).any()
    assert (image == 90).all()
    np.testing.assert_array_equal(Detections.empty().draw(image), image)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    images: list[NDArray[np.uint8]] = []
    monkeypatch.setattr(drawing, "show_image", images.append)
    return images


def test_show_draws_on_the_image_given(shown: list[Image]) -> None:
    four().show(gray_image())
    np.testing.assert_array_equal(shown[0], four().draw(gray_image()))


def test_show_knows_the_image_detected_on(shown: list[Image]) -> None:
    load: Callable[[], Image] = gray_image
    found = four()
    remembered = Detections(found.boxes, found.scores, found.labels, NAMES, load_image=load)
    remembered[:2].show()
    np.testing.assert_array_equal(shown[0], found[:2].draw(gray_image()))


def test_show_without_any_image(shown: list[Image]) -> None:
    with pytest.raises(ValueError, match=r"call show\(image\)"):
        four().show()
    assert shown == []


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"boxes must be \[D, 4\], got \(2, 5\)"):
        Detections(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"labels must be \[2\] as there are 2 boxes, got \(3,\)"):
        Detections(torch.zeros(2, 4), torch.zeros(2), torch.zeros(3))


def test_a_target_checks_its_shapes() -> None:
    parts: dict[str, Any] = {"labels": torch.zeros(2), "ignore": torch.zeros(2), "areas": torch.zeros(2)}
    assert len(Target(torch.zeros(2, 4), **parts)) == 2
    for name in parts:
        with pytest.raises(ValueError, match=rf"{name} must be \[2\], got \(3,\)"):
            Target(torch.zeros(2, 4), **{**parts, name: torch.zeros(3)})
    with pytest.raises(ValueError, match=r"boxes must be \[M, 4\]"):
        Target(torch.zeros(4), **parts)


@pytest.mark.parametrize("index", [1.7, np.float32(1.0), torch.tensor(1.0)], ids=str)
def test_a_number_with_a_fraction_is_no_index(index: Any) -> None:
    with pytest.raises(TypeError):
        four()[index]


@pytest.mark.filterwarnings("error")
def test_tensors_are_copies_whatever_the_arrays_are() -> None:
    found = four()
    assert found[::-1].torch()["scores"].tolist() == found.scores[::-1].tolist()
    for name in ("boxes", "scores", "labels"):
        getattr(found, name).setflags(write=False)
    tensors = found.torch()
    for name, tensor in tensors.items():
        before = getattr(found, name).tolist()
        tensor += 1
        assert getattr(found, name).tolist() == before


def test_to_moves_all_tensors() -> None:
    target = Target(torch.zeros(2, 4), torch.zeros(2), torch.zeros(2), torch.zeros(2), image_id=7).to("meta")
    assert {t.device.type for t in (target.boxes, target.labels, target.ignore, target.areas)} == {"meta"}
    assert target.image_id == 7


def test_detections_are_arrays_and_tensors_on_demand() -> None:
    found = Detections([[1, 2, 3, 4]], torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True), np.array([2]))
    assert [str(each.dtype) for each in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]
    tensors = found.torch()
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "boxes": torch.float32,
        "scores": torch.float32,
        "labels": torch.int64,
    }
    assert (tensors["boxes"].tolist(), tensors["scores"].tolist(), tensors["labels"].tolist()) == (
        [[1, 2, 3, 4]],
        [0.5],
        [2],
    )
    assert {tensor.device.type for tensor in found.torch("meta").values()} == {"meta"}
    with pytest.raises(UserError, match="device"):
        found.torch("cuda:99")


def test_comparing_asks_whether_it_is_the_same_object() -> None:
    found = four()
    assert found == found
    assert found != four()
    assert len({found, found}) == 1


def test_a_frame_knows_its_size() -> None:
    assert Frame(gray_image(), "a.jpg").size == (60, 80)


@pytest.mark.parametrize("package", ["pandas", "supervision"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        getattr(Detections.empty(), f"to_{package}")()


def test_targets_are_chosen_from_and_moved() -> None:
    target = Target(
        boxes=torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [4, 4, 9, 9]]),
        labels=torch.tensor([5, 6, 7]),
        ignore=torch.tensor([False, True, False]),
        areas=torch.tensor([4.0, 3.0, 25.0]),
        image_id=7,
        image_size=(20, 30),
        proposals=torch.tensor([[0.0, 0, 9, 9]]),
    )
    for index in (~target.ignore, [0, 2], np.array([0, 2]), slice(0, 3, 2), torch.tensor([0, 2])):
        chosen = target[index]
        assert chosen.labels.tolist() == [5, 7] and chosen.areas.tolist() == [4, 25]
        assert chosen.boxes.tolist() == [[0, 0, 2, 2], [4, 4, 9, 9]] and not chosen.ignore.any()
        assert (chosen.image_id, chosen.image_size) == (7, (20, 30))
        assert chosen.proposals is target.proposals  # they belong to the image, not to an object
    assert target[-1].labels.tolist() == [7] and target[torch.tensor(1)].labels.tolist() == [6]
    assert len(target[[]]) == 0
    with pytest.raises(IndexError):
        target[3]
    moved = target.map_boxes(lambda boxes: 2 * boxes)
    assert moved.boxes[2].tolist() == [8, 8, 18, 18] and moved.areas.tolist() == [4, 3, 25]
    assert moved.proposals is not None and moved.proposals.tolist() == [[0, 0, 18, 18]]
    assert replace(target, proposals=None).map_boxes(lambda boxes: boxes).proposals is None
