from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.trees import write_image
from yolofpn.data.assemble import BoxRows, ImageList, assemble, image_ids_of
from yolofpn.data.dataset import DetectionDataset, FlatStrings, ProblemKind, concatenate
from yolofpn.errors import InputError


def build(folder: Path, boxes: list[tuple[int, int, tuple[float, float, float, float]]]) -> DetectionDataset:
    """Three images of 40 x 60 with boxes of (image, label, xyxy)."""
    paths = [write_image(folder / f"{stem}.png", seed=seed) for seed, stem in enumerate(("a", "b", "c"))]
    rows = BoxRows()
    for number, (image, label, box) in enumerate(boxes, start=1):
        rows.add(image, number, label, box)
    images = ImageList(paths, [(40, 60)] * 3, [True] * 3)
    return assemble(["cat", "dog"], images, rows, [], file_of=lambda image: paths[image].name, item="line")


def test_an_item_is_the_rgb_image_and_its_boxes(tmp_path: Path) -> None:
    dataset = build(tmp_path, [(1, 1, (5, 6, 25, 16)), (0, 0, (1, 2, 3, 4)), (1, 0, (0, 0, 60, 40))])
    image, target = dataset[1]
    stored = cv2.imread(str(tmp_path / "b.png"))
    assert stored is not None
    assert image.dtype == torch.uint8
    assert image.shape == (3, 40, 60)
    assert np.array_equal(image.numpy(), stored[:, :, ::-1].transpose(2, 0, 1))
    assert target.boxes.tolist() == [[5, 6, 25, 16], [0, 0, 60, 40]]
    assert target.labels.tolist() == [1, 0]
    assert target.areas.tolist() == [200, 2400]
    assert target.ignore.tolist() == [False, False]
    assert target.image_id == 1


def test_an_image_without_boxes_has_an_empty_target(tmp_path: Path) -> None:
    target = build(tmp_path, [(0, 0, (1, 2, 3, 4))]).target(2)
    assert target.boxes.shape == (0, 4)
    assert len(target) == 0


def test_changing_a_target_leaves_the_data_set_as_it_is(tmp_path: Path) -> None:
    dataset = build(tmp_path, [(0, 0, (1, 2, 3, 4))])
    dataset.target(0).boxes.mul_(0)
    assert dataset.target(0).boxes.tolist() == [[1, 2, 3, 4]]


def test_bad_boxes_are_dropped_or_clipped_and_each_is_reported(tmp_path: Path) -> None:
    dataset = build(
        tmp_path,
        [
            (0, 0, (10, 10, 20, 20)),
            (0, 0, (10, 10, 10, 20)),  # no width
            (0, 1, (20, 10, 10, 20)),  # corners swapped
            (1, 0, (float("nan"), 0, 5, 5)),
            (1, 0, (0, 0, float("inf"), 5)),
            (1, 1, (50, 30, 70, 50)),  # a quarter lies inside
            (1, 1, (61, 0, 70, 10)),  # nothing does
            (2, 0, (-0.2, 0, 30, 40.3)),  # only rounding
            (2, 0, (1, 1, 9, 9)),
            (2, 1, (1, 1, 9, 9)),  # another class: no duplicate
            (2, 0, (1, 1, 9, 9)),
        ],
    )
    assert dataset.target(0).boxes.tolist() == [[10, 10, 20, 20]]
    assert dataset.target(1).boxes.tolist() == [[50, 30, 60, 40]]
    assert dataset.target(2).boxes.tolist() == [[0, 0, 30, 40], [1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9]]
    reported = [(problem.kind, problem.file, problem.reason.split(":")[0]) for problem in dataset.problems]
    assert sorted(reported, key=lambda entry: int(entry[2].split()[1])) == [
        (ProblemKind.ZERO_AREA, "a.png", "line 2"),
        (ProblemKind.ZERO_AREA, "a.png", "line 3"),
        (ProblemKind.MALFORMED, "b.png", "line 4"),
        (ProblemKind.MALFORMED, "b.png", "line 5"),
        (ProblemKind.OUTSIDE, "b.png", "line 6"),
        (ProblemKind.OUTSIDE, "b.png", "line 7"),
        (ProblemKind.DUPLICATE, "c.png", "line 11"),
    ]


def test_boxes_are_scaled_with_an_image_that_was_resized_after_labelling(tmp_path: Path) -> None:
    dataset = build(tmp_path, [(0, 0, (10, 10, 50, 30)), (0, 1, (45, 0, 60, 10))])
    target = dataset.target(0, (20, 120))
    assert target.boxes.tolist() == [[20, 5, 100, 15], [90, 0, 120, 5]]
    assert target.labels.tolist() == [0, 1]
    assert target.areas.tolist() == [800, 150]


def test_boxes_are_cut_to_an_image_that_was_turned_after_labelling(tmp_path: Path) -> None:
    dataset = build(tmp_path, [(0, 0, (10, 10, 50, 30)), (0, 1, (45, 0, 60, 10))])
    target = dataset.target(0, (60, 40))
    assert target.boxes.tolist() == [[10, 10, 40, 30]]
    assert target.labels.tolist() == [0]
    assert target.areas.tolist() == [800]


def test_a_missing_image_is_an_input_error(tmp_path: Path) -> None:
    dataset = build(tmp_path, [])
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png"):
        dataset[1]


def test_a_subset_keeps_each_image_with_its_boxes(tmp_path: Path) -> None:
    dataset = build(tmp_path, [(0, 0, (1, 1, 2, 2)), (1, 0, (3, 3, 4, 4)), (2, 1, (5, 5, 6, 6)), (2, 1, (7, 7, 8, 8))])
    subset = dataset.subset([2, 0])
    assert [Path(path).name for path in subset.paths] == ["c.png", "a.png"]
    assert subset.target(0).boxes.tolist() == [[5, 5, 6, 6], [7, 7, 8, 8]]
    assert subset.target(1).boxes.tolist() == [[1, 1, 2, 2]]
    assert subset.image_ids.tolist() == [2, 0]
    assert subset.image_index.tolist() == [0, 0, 1]


def test_joined_data_sets_keep_their_boxes_and_get_ids_of_their_own(tmp_path: Path) -> None:
    first = build(tmp_path / "one", [(0, 0, (1, 1, 2, 2)), (2, 1, (5, 5, 6, 6))])
    second = build(tmp_path / "two", [(1, 0, (3, 3, 4, 4))])
    joined = concatenate([first, second])
    assert len(joined) == 6
    assert joined.image_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert [joined.target(i).boxes.tolist() for i in range(6)] == [
        [[1, 1, 2, 2]],
        [],
        [[5, 5, 6, 6]],
        [],
        [[3, 3, 4, 4]],
        [],
    ]


def test_flat_strings_give_back_any_path() -> None:
    strings = ["a.jpg", "", "Müller/図.png", "b c.jpg"]
    flat = FlatStrings(strings)
    assert list(flat) == strings
    assert flat[-1] == "b c.jpg"
    assert flat[1:3] == ["", "Müller/図.png"]
    with pytest.raises(IndexError):
        flat[4]


@pytest.mark.parametrize(
    ("stems", "ids"),
    [
        (["000000000139", "000000000285"], [139, 285]),
        (["000139", "cat"], [0, 1]),
        (["7", "007"], [0, 1]),  # equal as numbers
    ],
)
def test_image_ids_are_the_numbers_in_the_names_where_all_have_one(stems: list[str], ids: list[int]) -> None:
    assert image_ids_of([Path(f"{stem}.jpg") for stem in stems]) == ids
