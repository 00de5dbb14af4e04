"""Folders as labelling tools export them, built small: two training images and, if they have them, others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.small_splits import JSON_BOX, XML, check_split, note_about, write_yolo
from tests.data.trees import coco_json, voc_xml, write, write_image
from yolofpn.data.layouts import open_data


def test_split_folders_with_images_and_labels(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("valid", "b"), ("test", "c")):
        write_yolo(tmp_path / split / "images" / f"{stem}.png", tmp_path / split / "labels" / f"{stem}.txt")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    source = open_data(tmp_path)
    for split, stem in (("train", "a"), ("val", "b"), ("test", "c")):
        check_split(source, split, [stem])


def test_images_and_labels_with_split_folders(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("val", "b")):
        write_yolo(tmp_path / "images" / split / f"{stem}.png", tmp_path / "labels" / split / f"{stem}.txt")
    write(tmp_path / "labels" / "classes.txt", "cat\ndog\n")
    check_split(open_data(tmp_path), "train", ["a"])
    check_split(open_data(tmp_path), "val", ["b"])


def test_roboflow_coco_export(tmp_path: Path) -> None:
    categories = [(0, "animals"), (1, "cat"), (2, "dog")]
    for split, stem in (("train", "a"), ("valid", "b")):
        write_image(tmp_path / split / f"{stem}.png")
        tree = json.loads(coco_json([f"{stem}.png"], [(1, 2, JSON_BOX)], categories))
        for category in tree["categories"][1:]:
            category["supercategory"] = "animals"
        write(tmp_path / split / "_annotations.coco.json", json.dumps(tree))
    source = open_data(tmp_path)
    check_split(source, "train", ["a"])
    check_split(source, "val", ["b"])


def test_roboflow_voc_export(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("valid", "b")):
        write_image(tmp_path / split / f"{stem}.png")
        write(tmp_path / split / f"{stem}.xml", XML)
    write_image(tmp_path / "train" / "z.png")
    write(tmp_path / "train" / "z.xml", voc_xml([("cat", (1, 1, 9, 9))]))
    source = open_data(tmp_path)
    check_split(source, "val", ["b"])  # has no cat, but the classes are those of all splits
    assert source.load("train").names == ("cat", "dog")


def test_label_studio_yolo_export(tmp_path: Path) -> None:
    write_yolo(tmp_path / "images/1-a.png", tmp_path / "labels/1-a.txt")
    notes = {"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}], "info": {"version": "1.0"}}
    write(tmp_path / "notes.json", json.dumps(notes))
    check_split(open_data(tmp_path), "all", ["1-a"])
    write(tmp_path / "classes.txt", "kitten\npuppy\n")
    check_split(open_data(tmp_path), "all", ["1-a"], ("kitten", "puppy"))


def test_label_studio_coco_export(tmp_path: Path) -> None:
    write_image(tmp_path / "images/1-a.png")
    write(tmp_path / "result.json", coco_json(["images\\1-a.png"], [(1, 2, JSON_BOX)]))
    check_split(open_data(tmp_path), "all", ["1-a"])


def test_label_studio_voc_export(tmp_path: Path) -> None:
    write_image(tmp_path / "images/1-a.png")
    write(tmp_path / "Annotations/1-a.xml", XML)
    check_split(open_data(tmp_path), "all", ["1-a"], ("dog",))


def test_labelimg_yolo(tmp_path: Path) -> None:
    for stem in "ab":
        write_yolo(tmp_path / f"{stem}.png", tmp_path / f"{stem}.txt")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    check_split(open_data(tmp_path), "all", ["a", "b"])


def test_roboflow_darknet_export(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_yolo(tmp_path / split / f"{split}.png", tmp_path / split / f"{split}.txt")
        write(tmp_path / split / "_darknet.labels", "cat\ndog\n")
    check_split(open_data(tmp_path), "train", ["train"])
    check_split(open_data(tmp_path), "val", ["valid"])


def test_labelimg_voc(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.xml", XML)
    check_split(open_data(tmp_path), "all", ["a"], ("dog",))


def test_text_files_without_class_names(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.png", tmp_path / "a.txt")
    source = open_data(tmp_path)
    check_split(source, "all", ["a"], ("0", "1"))
    assert "called 0 to 1" in note_about(source, "no class names")


def write_voc_year(folder: Path, splits: dict[str, str]) -> None:
    for split, stem in splits.items():
        write_image(folder / "JPEGImages" / f"{stem}.png")
        write(folder / "Annotations" / f"{stem}.xml", XML)
        write(folder / "ImageSets/Main" / f"{split}.txt", f"{stem}\n")
    write(folder / "ImageSets/Main/dog_train.txt", "a  1\nb -1\n")


def test_voc_devkit_of_one_year(tmp_path: Path) -> None:
    write_voc_year(tmp_path, {"train": "a", "val": "b"})
    source = open_data(tmp_path)
    assert set(source.layout.splits) == {"train", "val"}
    check_split(source, "train", ["a"], ("dog",))
    check_split(source, "val", ["b"], ("dog",))


def test_voc_devkit_of_two_years(tmp_path: Path) -> None:
    write_voc_year(tmp_path / "VOCdevkit/VOC2007", {"train": "a", "val": "b", "test": "c"})
    write_voc_year(tmp_path / "VOCdevkit/VOC2012", {"train": "d", "val": "e"})
    for folder in (tmp_path, tmp_path / "VOCdevkit"):
        source = open_data(folder)
        check_split(source, "train", ["a", "d"], ("dog",))
        check_split(source, "val", ["b", "e"], ("dog",))
        check_split(source, "test", ["c"], ("dog",))


def test_cvat_voc_export_without_splits(tmp_path: Path) -> None:
    write_voc_year(tmp_path, {"default": "a"})
    check_split(open_data(tmp_path), "all", ["a"], ("dog",))


@pytest.mark.parametrize("folder", ["images", "images/default"])
def test_cvat_coco_export(tmp_path: Path, folder: str) -> None:
    write_image(tmp_path / folder / "a.png")
    write(tmp_path / "annotations/instances_default.json", coco_json(["a.png"], [(1, 2, JSON_BOX)]))
    check_split(open_data(tmp_path), "all", ["a"])


def test_cvat_coco_export_with_splits(tmp_path: Path) -> None:
    for split, stem in (("Train", "a"), ("Validation", "b")):
        write_image(tmp_path / "images" / split / f"{stem}.png")
        write(tmp_path / f"annotations/instances_{split}.json", coco_json([f"{stem}.png"], [(1, 2, JSON_BOX)]))
    check_split(open_data(tmp_path), "train", ["a"])
    check_split(open_data(tmp_path), "val", ["b"])


def test_coco_s_own_folders(tmp_path: Path) -> None:
    for split, stem in (("train2017", "a"), ("val2017", "b")):
        write_image(tmp_path / split / f"{stem}.png")
        write(tmp_path / f"annotations/instances_{split}.json", coco_json([f"{stem}.png"], [(1, 2, JSON_BOX)]))
    write(tmp_path / "annotations/captions_val2017.json", "{}")
    check_split(open_data(tmp_path), "train", ["a"])
    check_split(open_data(tmp_path), "val", ["b"])
