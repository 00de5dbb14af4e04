from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.trees import coco_json, write, write_image
from yolofpn.data.class_names import COCO_NAMES
from yolofpn.data.data_check import check_data
from yolofpn.data.dataset import Problem, ProblemKind
from yolofpn.data.near_identical import MAX_DISTANCE, difference_hash, nearest
from yolofpn.errors import UserError


def write_set(folder: Path) -> Path:
    """Five training images and two of validation, with one of each thing that can be wrong."""
    for seed, stem in enumerate("abcde"):
        write_image(folder / "train" / f"{stem}.png", seed=seed)
    write_image(folder / "val" / "v.png", seed=10)
    (folder / "val" / "copy.png").write_bytes((folder / "train" / "b.png").read_bytes())
    (folder / "train" / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    boxes = [
        (1, 1, [1, 1, 20, 20]),
        (1, 1, [1, 1, 20, 20]),  # again
        (1, 2, [5, 5, 40, 30]),
        (2, 2, [5, 5, 0, 30]),  # no width
        (2, 2, [50, 30, 40, 40]),  # leaves the image
        (3, 7, [5, 5, 10, 10]),  # no such category
        (4, 1, [5, 5, 10, 10]),
    ]
    train = json.loads(coco_json([f"{stem}.png" for stem in "abcde"] + ["gone.png"], boxes))
    train["images"][2] |= {"height": 60, "width": 40}
    write(folder / "annotations/instances_train.json", json.dumps(train))
    write(folder / "annotations/instances_val.json", coco_json(["v.png", "copy.png"], [(1, 1, [1, 1, 9, 9])]))
    return folder


def test_every_problem_is_found_with_its_file(tmp_path: Path) -> None:
    report = check_data(write_set(tmp_path))
    train, val = report.splits

    def found(problems: tuple[Problem, ...]) -> list[tuple[ProblemKind, str]]:
        return sorted((problem.kind, Path(problem.file).name) for problem in problems)

    assert found(train.problems) == [
        (ProblemKind.OUTSIDE, "b.png"),
        (ProblemKind.DUPLICATE, "a.png"),
        (ProblemKind.MISSING_IMAGE, "gone.png"),
        (ProblemKind.SIZE_DIFFERS, "c.png"),
        (ProblemKind.UNKNOWN_CLASS, "instances_train.json"),
        (ProblemKind.UNREADABLE_IMAGE, "d.png"),
        (ProblemKind.ZERO_AREA, "b.png"),
    ]
    assert val.problems == ()
    assert found(report.shared) == [(ProblemKind.NEAR_IDENTICAL, "copy.png")]
    assert "train/b.png of train (0 of 256 bits" in report.shared[0].reason
    assert report.num_problems == 8
    text = "\n".join(report.lines())
    for problem in (*train.problems, *report.shared):
        assert f"{problem.file}: {problem.reason}" in text


def test_the_numbers_of_a_split(tmp_path: Path) -> None:
    train = check_data(write_set(tmp_path), decode=False).splits[0]
    assert (train.images, train.boxes, train.ignored) == (5, 5, 0)
    assert train.class_boxes.tolist() == [3, 2]
    assert train.class_images.tolist() == [2, 2]
    assert train.sizes == (3, 2, 0)  # areas 400, 400, 100; 1200 and, as annotated, 1600
    assert [Path(path).name for path in train.unlabelled] == ["e.png"]
    assert train.empty == 1  # c.png, whose only box has no class


def test_without_decoding_images_are_not_opened(tmp_path: Path) -> None:
    report = check_data(write_set(tmp_path), decode=False)
    kinds = {problem.kind for split in report.splits for problem in split.problems}
    assert not kinds & {ProblemKind.UNREADABLE_IMAGE, ProblemKind.SIZE_DIFFERS}
    assert report.shared == ()


def test_a_clean_data_set_says_so(tmp_path: Path) -> None:
    for seed, stem in enumerate("ab"):
        write_image(tmp_path / f"{stem}.png", seed=seed)
        write(tmp_path / f"{stem}.txt", "0 .5 .5 .5 .5\n")
    report = check_data(tmp_path)
    assert [split.split for split in report.splits] == ["train", "val"]
    assert report.num_problems == 0
    assert report.lines()[-1] == "no problems found"


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 .5 .5 .5 .5\n" + "9 .5 .5 .5 .5\n" * 30)
    write(tmp_path / "classes.txt", "cat\n")
    report = check_data(tmp_path, splits=("train",), decode=False)
    lines = report.lines(limit=4)
    assert sum("class 9 is not" in line for line in lines) == 4
    assert any("and 26 more" in line for line in lines)
    assert sum("class 9 is not" in line for line in report.lines(limit=None)) == 30


def test_only_classes_with_boxes_have_a_row(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "1 .5 .5 .5 .5\n")
    write(tmp_path / "classes.txt", "cat\ndog\nan elephant\n")
    lines = check_data(tmp_path, splits=("train",), decode=False).lines()
    assert "train: 1 image, 1 box, 0 ignore regions; 0 images without a box" in lines
    assert [line.split()[0] for line in lines if " boxes in " in line] == ["dog"]
    assert "  classes without a box (2): cat, an elephant" in lines


def test_of_many_classes_without_boxes_the_first_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 .5 .5 .5 .5\n")
    write(tmp_path / "classes.txt", "".join(f"{name}\n" for name in COCO_NAMES))
    report = check_data(tmp_path, splits=("train",), decode=False)
    assert "  classes without a box (79): bicycle, car, motorcycle and 76 more" in report.lines(limit=3)
    assert any(line.endswith("hair drier, toothbrush") for line in report.lines(limit=None))


def test_a_data_set_without_the_split_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holdout"):
        check_data(write_set(tmp_path), splits=("holdout",))


@pytest.mark.slow
def test_bccd_has_two_boxes_without_area_and_one_field_in_both_splits(data_dir: Path) -> None:
    report = check_data(data_dir / "bccd" / "BCCD")
    reported = {Path(p.file).stem for split in report.splits for p in split.problems}
    assert reported == {"BloodImage_00338", "BloodImage_00343"}
    assert [Path(p.file).stem for p in report.shared] == ["BloodImage_00037"]  # the same cells as 00038, shifted
    assert report.num_problems == 3


# Near-identical images


def test_the_hash_tells_brightness_steps_from_left_to_right() -> None:
    rising = np.repeat(np.tile(np.arange(17, dtype=np.uint8) * 10, (16, 1))[:, :, None], 3, axis=2)
    assert np.unpackbits(difference_hash(rising)).all()
    assert not np.unpackbits(difference_hash(rising[:, ::-1])).any()
    assert not np.unpackbits(difference_hash(np.full((50, 70, 3), 128, dtype=np.uint8))).any()


@pytest.mark.slow
def test_copies_stay_near_and_other_images_far(data_dir: Path) -> None:
    paths = sorted((data_dir / "coco128/images/train2017").glob("*.jpg"))[:24]
    images = [image for path in paths if (image := cv2.imread(str(path))) is not None]
    hashes = np.stack([difference_hash(np.asarray(image, dtype=np.uint8)) for image in images])
    encoded = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1] for image in images]
    decoded = [image for data in encoded if (image := cv2.imdecode(data, cv2.IMREAD_COLOR)) is not None]
    copies = np.stack(
        [difference_hash(np.asarray(cv2.resize(p, None, fx=0.6, fy=0.6), dtype=np.uint8)) for p in decoded]
    )
    index, distance = nearest(copies, hashes)
    assert index.tolist() == list(range(len(images)))
    assert distance.max() <= MAX_DISTANCE
    _, others = nearest(hashes[:12], hashes[12:])
    assert others.min() > MAX_DISTANCE


def test_nearest_equals_a_slow_count_of_bits() -> None:
    rng = np.random.default_rng(1)
    hashes, others = rng.integers(0, 256, (130, 32), dtype=np.uint8), rng.integers(0, 256, (70, 32), dtype=np.uint8)
    index, distance = nearest(hashes, others)
    slow = np.array([[np.unpackbits(a ^ b).sum() for b in others] for a in hashes])
    assert np.array_equal(distance, slow.min(axis=1))
    assert np.array_equal(index, slow.argmin(axis=1))
    with pytest.raises(ValueError, match="nothing"):
        nearest(hashes, others[:0])
