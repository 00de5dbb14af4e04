from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from tests.data.trees import coco_json, write, write_image
from yolofpn.data.class_names import COCO_CATEGORY_IDS, COCO_NAMES
from yolofpn.data.dataset import ProblemKind
from yolofpn.data.formats.coco_json import read_coco
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError


def test_boxes_crowds_and_areas_are_read_as_annotated(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    tree = json.loads(coco_json(["a.png"], [(1, 90, [10, 5, 20, 10]), (1, 7, [0, 0, 30, 30])], [(90, "z"), (7, "q")]))
    tree["annotations"][0] |= {"area": 123.5, "segmentation": [[10, 5, 30, 5, 30, 15]]}
    tree["annotations"][1] |= {"iscrowd": 1, "segmentation": {"counts": [3, 4], "size": [40, 60]}}
    del tree["annotations"][1]["area"]
    dataset = read_coco(write(tmp_path / "x.json", json.dumps(tree)), tmp_path)
    target = dataset.target(0)
    assert dataset.names == ("q", "z")  # by category id, not by place in the file
    assert dataset.category_ids == (7, 90)
    assert target.boxes.tolist() == [[10, 5, 30, 15], [0, 0, 30, 30]]
    assert target.labels.tolist() == [1, 0]
    assert target.ignore.tolist() == [False, True]
    assert target.areas.tolist() == [123.5, 900]
    assert target.image_id == 1
    assert dataset.problems == ()


def roboflow(images: int, boxes: list[tuple[int, int, list[float]]]) -> str:
    tree = json.loads(coco_json([f"{i}.png" for i in range(images)], boxes, [(0, "cells"), (1, "RBC"), (2, "WBC")]))
    for category in tree["categories"][1:]:
        category["supercategory"] = "cells"
    return json.dumps(tree)


def test_a_category_that_only_heads_others_is_no_class(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    dataset = read_coco(write(tmp_path / "x.json", roboflow(1, [(1, 2, [1, 1, 5, 5])])), tmp_path)
    assert dataset.names == ("RBC", "WBC")
    assert dataset.category_ids == (1, 2)
    assert dataset.target(0).labels.tolist() == [1]


def test_a_heading_category_with_annotations_is_a_class_in_every_split(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    train = write(tmp_path / "train.json", roboflow(1, [(1, 0, [1, 1, 5, 5])]))
    val = write(tmp_path / "val.json", roboflow(1, [(1, 2, [1, 1, 5, 5])]))
    assert read_coco(train, tmp_path, siblings=[val]).names == ("cells", "RBC", "WBC")
    assert read_coco(val, tmp_path, siblings=[train]).names == ("cells", "RBC", "WBC")


def test_coco_s_person_is_its_own_supercategory_and_stays_a_class(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    tree = json.loads(coco_json(["a.png"], [(1, 2, [1, 1, 5, 5])], [(1, "person"), (2, "car")]))
    tree["categories"][0]["supercategory"] = "person"
    assert read_coco(write(tmp_path / "x.json", json.dumps(tree)), tmp_path).names == ("person", "car")


def test_what_does_not_fit_together_is_reported_and_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    boxes = [(1, 1, [1, 1, 5, 5]), (1, 9, [1, 1, 5, 5]), (7, 1, [1, 1, 5, 5]), (2, 1, [1, 1, 5, 5])]
    tree = json.loads(coco_json(["a.png", "gone.png"], boxes))
    tree["annotations"][2]["id"] = 900100200300
    tree["annotations"].append({"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]})
    tree["annotations"].append({"id": 6, "image_id": 1, "category_id": 1, "bbox": [1, 2, "x", 4]})
    tree["images"].append({"id": "three"})
    dataset = read_coco(write(tmp_path / "x.json", json.dumps(tree)), tmp_path)
    assert len(dataset) == 1
    assert dataset.target(0).boxes.tolist() == [[1, 1, 6, 6]]
    reasons = {problem.kind: problem.reason for problem in dataset.problems}
    assert reasons[ProblemKind.UNKNOWN_CLASS] == "annotation 2: category_id 9 is not among the classes: dropped"
    assert reasons[ProblemKind.UNKNOWN_IMAGE].startswith("annotation 900100200300: image_id 7 is not")
    kinds = [problem.kind for problem in dataset.problems]
    assert sorted(kinds) == sorted(
        [
            ProblemKind.MALFORMED,
            ProblemKind.MALFORMED,
            ProblemKind.MALFORMED,
            ProblemKind.MISSING_IMAGE,
            ProblemKind.UNKNOWN_CLASS,
            ProblemKind.UNKNOWN_IMAGE,
        ]
    )


def test_names_choose_classes_and_their_order_in_any_spelling(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    boxes = [(1, 1, [1, 1, 5, 5]), (1, 2, [2, 2, 5, 5]), (1, 3, [3, 3, 5, 5])]
    path = write(tmp_path / "x.json", coco_json(["a.png"], boxes, [(1, "person"), (2, "motorcycle"), (3, "sofa")]))
    dataset = read_coco(path, tmp_path, names=["Couch", "motorbike", "unicorn"])
    assert dataset.names == ("Couch", "motorbike", "unicorn")
    assert dataset.category_ids[:2] == (3, 2)
    assert dataset.target(0).labels.tolist() == [1, 0]
    assert [problem.kind for problem in dataset.problems] == [ProblemKind.UNKNOWN_CLASS] * 2
    with pytest.raises(UserError, match="classes"):
        read_coco(path, tmp_path, names=["unicorn"])


@pytest.mark.parametrize("written", ["upload/1/a.png", "..\\..\\upload\\1\\a.png", "images\\a.png"])
def test_images_are_found_without_the_folders_of_another_machine(tmp_path: Path, written: str) -> None:
    write_image(tmp_path / "a.png")
    dataset = read_coco(write(tmp_path / "x.json", coco_json([written], [(1, 1, [1, 1, 5, 5])])), tmp_path)
    assert list(dataset.paths) == [str(tmp_path / "a.png")]


def test_a_size_that_is_not_given_is_read_from_the_image(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", height=30, width=50)
    tree = json.loads(coco_json(["a.png"], [(1, 1, [1, 1, 500, 500])]))
    tree["images"][0] |= {"height": 0, "width": None}
    dataset = read_coco(write(tmp_path / "x.json", json.dumps(tree)), tmp_path)
    assert dataset.target(0).boxes.tolist() == [[1, 1, 50, 30]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "not valid JSON"),
        ("[1, 2]", "no COCO data set"),
        ('{"images": [], "annotations": {}, "categories": []}', "no COCO data set"),
        ('{"images": [], "annotations": [], "categories": [{"name": "cat"}]}', "'id' and a 'name'"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
    ],
)
def test_a_file_that_is_no_coco_is_a_user_error(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        write(path, text)
    with pytest.raises(UserError, match=message):
        read_coco(path, tmp_path)


def test_no_image_on_disk_is_a_user_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", coco_json(["a.png"], [(1, 1, [1, 1, 5, 5])]))
    with pytest.raises(UserError, match=r"none of the 1 images.*a\.png\nput"):
        read_coco(path, tmp_path / "images")


def test_coco128_agrees_with_pycocotools(data_dir: Path) -> None:
    folder = data_dir / "coco128"
    path = folder / "annotations" / "instances_train2017.json"
    dataset = read_coco(path, folder / "images" / "train2017")
    oracle = COCO(str(path))
    assert dataset.names == COCO_NAMES
    assert dataset.category_ids == COCO_CATEGORY_IDS
    assert (len(dataset), len(dataset.boxes), int(dataset.ignore.sum())) == (128, 939, 10)
    assert len(np.unique(dataset.labels)) == 71
    assert int((~dataset.labelled).sum()) == 2
    assert dataset.problems == ()
    for index in range(len(dataset)):
        target = dataset.target(index)
        expected: list[dict[str, Any]] = oracle.loadAnns(oracle.getAnnIds(imgIds=target.image_id))
        assert [COCO_CATEGORY_IDS[label] for label in target.labels.tolist()] == [a["category_id"] for a in expected]
        assert target.ignore.tolist() == [bool(a["iscrowd"]) for a in expected]
        assert np.allclose(target.areas, [a["area"] for a in expected])
        boxes = np.array([a["bbox"] for a in expected], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.abs(target.boxes.numpy() - boxes).max(initial=0) < 0.02


def test_coco128_s_json_and_its_txt_files_give_the_same_boxes(data_dir: Path) -> None:
    json_set = open_data(data_dir / "coco128").load("all")
    txt_set = open_data(data_dir / "coco128" / "config_yolo.yaml").load("train")
    assert len(txt_set.boxes) == 929
    from_txt = {Path(path).name: txt_set.target(index) for index, path in enumerate(txt_set.paths)}
    for index, path in enumerate(json_set.paths):
        target, other = json_set.target(index), from_txt[Path(path).name]
        objects = ~target.ignore
        first = np.column_stack([target.labels[objects].numpy(), target.boxes[objects].numpy()])
        second = np.column_stack([other.labels.numpy(), other.boxes.numpy()])
        assert len(first) == len(second)
        if not len(first):
            continue
        distances = np.abs(first[:, None] - second[None]).max(axis=2)  # [objects, objects]
        assert distances.min(axis=0).max() < 0.02
        assert distances.min(axis=1).max() < 0.02


def test_a_missing_class_does_not_take_the_id_of_another(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
        "categories": [{"id": -1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": -1, "bbox": [1, 1, 5, 5]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    dataset = read_coco(tmp_path / "a.json", tmp_path, names=("bird", "cat"))
    assert len(dataset.target(0).boxes) == 0
    dataset = read_coco(tmp_path / "a.json", tmp_path, names=("bird", "dog"))
    assert dataset.target(0).labels.tolist() == [1]
