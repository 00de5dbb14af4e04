"""Data sets that a file describes, and what holds for all: classes, images without labels, held-out images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.small_splits import JSON_BOX, XML, check_split, note_about, write_yolo
from tests.data.trees import coco_json, write, write_image
from yolofpn.data.dataset import ProblemKind
from yolofpn.data.layouts import held_out_mask, open_data
from yolofpn.errors import UserError

REPOSITORY = Path(__file__).parents[2]

# Our own YAML


def test_our_yaml(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("val", "b")):
        write_image(tmp_path / "set" / "images" / split / f"{stem}.png")
        write(tmp_path / "set" / f"{split}.json", coco_json([f"{stem}.png"], [(1, 2, JSON_BOX)]))
    yaml = write(
        tmp_path / "cfg" / "x.yaml",
        "format: coco\nroot: ../set\nsplits:\n"
        "  train: {images: images/train, annotations: train.json}\n"
        "  val: {images: images/val, annotations: val.json}\n",
    )
    source = open_data(yaml)
    check_split(source, "train", ["a"])
    check_split(source, "val", ["b"])
    check_split(open_data(yaml, tmp_path / "set"), "val", ["b"])


def test_our_yaml_with_lists_and_several_parts(tmp_path: Path) -> None:
    for stem in "abcd":
        write_image(tmp_path / "JPEGImages" / f"{stem}.png")
        write(tmp_path / "xml" / f"{stem}.xml", XML)
    write(tmp_path / "one.txt", "a\nmissing\n")
    write(tmp_path / "two.txt", "d.png\n")
    yaml = write(
        tmp_path / "x.yaml",
        "format: voc\nsplits:\n  train:\n"
        "    - {images: JPEGImages, annotations: xml, list: one.txt}\n"
        "    - {images: JPEGImages, annotations: xml, list: two.txt}\n"
        "  val: {images: JPEGImages, annotations: xml}\n"
        "names: {0: cat, 1: dog}\n",
    )
    dataset = check_split(open_data(yaml), "train", ["a", "d"])
    assert [(p.kind, p.file) for p in dataset.problems] == [(ProblemKind.MISSING_IMAGE, "missing")]
    check_split(open_data(yaml), "val", ["a", "b", "c", "d"])


def test_a_list_chooses_images_of_a_coco_file(tmp_path: Path) -> None:
    for stem in "ab":
        write_image(tmp_path / f"{stem}.png")
    write(tmp_path / "x.json", coco_json(["a.png", "b.png"], [(1, 2, JSON_BOX), (2, 2, JSON_BOX)]))
    write(tmp_path / "val.txt", f"{tmp_path}/b.png\n")
    write(tmp_path / "x.yaml", "format: coco\nsplits: {val: {images: ., annotations: x.json, list: val.txt}}\n")
    check_split(open_data(tmp_path / "x.yaml"), "val", ["b"])


def test_our_yaml_without_its_data_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_data(REPOSITORY / "cfg/data/coco.yaml", tmp_path / "coco")
    first, second = str(caught.value).splitlines()
    assert f"{tmp_path}/coco does not exist" in first
    assert "train2017, annotations/instances_train2017.json" in second
    assert "data.root=DIR" in second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format: coco\nsplits: {train: {images: a}}\n", "needs 'annotations'"),
        ("format: coco\nsplit: {}\n", r"split: unknown key \(did you mean 'splits'"),
        ("format: pascal\nsplits: {train: {images: a}}\n", "format: Input should be 'coco'"),
        ("format: voc\nsplits: {train: {images: a}}\nnames: {1: a, 2: b}\n", "numbered 0, 1, 2"),
        ("model: {}\n", "describes no data set"),
    ],
)
def test_a_wrong_yaml_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_data(write(tmp_path / "x.yaml", text))


# data.yaml of Ultralytics, Roboflow and CVAT


def test_ultralytics_yaml(tmp_path: Path) -> None:
    write_yolo(tmp_path / "set/images/train/a.png", tmp_path / "set/labels/train/a.txt")
    write_yolo(tmp_path / "set/images/val/b.png", tmp_path / "set/labels/val/b.txt")
    yaml = write(
        tmp_path / "data.yaml",
        "path: set\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\ndownload: nothing\n",
    )
    check_split(open_data(yaml), "train", ["a"])
    check_split(open_data(yaml), "val", ["b"])
    check_split(open_data(yaml, tmp_path / "set"), "val", ["b"])


def test_roboflow_yaml_whose_paths_lead_one_folder_too_high(tmp_path: Path) -> None:
    for split, stem in (("train", "a"), ("valid", "b")):
        write_yolo(tmp_path / split / "images" / f"{stem}.png", tmp_path / split / "labels" / f"{stem}.txt")
    write(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
        "roboflow: {workspace: w}\n",
    )
    for data in (tmp_path / "data.yaml", tmp_path):
        source = open_data(data)
        check_split(source, "train", ["a"])
        check_split(source, "val", ["b"])
        with pytest.raises(UserError, match="images"):
            source.load("test")


def test_a_missing_folder_is_not_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    write_yolo(tmp_path / "images" / "a.png", tmp_path / "labels" / "a.txt")
    yaml = write(tmp_path / "data.yaml", "train: images\nval: ../valid/images\nnames: [cat, dog]\n")
    check_split(open_data(yaml), "train", ["a"])
    with pytest.raises(UserError, match="images"):
        open_data(yaml).load("val")


def test_a_link_that_leads_back_up_is_followed_once(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.png", tmp_path / "a.txt")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    check_split(open_data(tmp_path), "all", ["a"])


def test_ultralytics_yaml_with_lists_of_images(tmp_path: Path) -> None:
    for stem in "abc":
        write_yolo(tmp_path / "images" / f"{stem}.png", tmp_path / "labels" / f"{stem}.txt")
    write(tmp_path / "one.txt", "./images/a.png\n\n")
    write(tmp_path / "two.txt", f"{tmp_path}/images/b.png\nimages/gone.png\n")
    write(tmp_path / "val.txt", "images/c.png\n")
    yaml = write(tmp_path / "data.yaml", "train: [one.txt, two.txt]\nvalid: val.txt\nnc: 2\n")
    dataset = check_split(open_data(yaml), "train", ["a", "b"], ("0", "1"))
    assert [p.file for p in dataset.problems] == ["images/gone.png"]
    check_split(open_data(yaml), "val", ["c"], ("0", "1"))


def test_cvat_yolo_detection_export(tmp_path: Path) -> None:
    write_yolo(tmp_path / "images/train/a.png", tmp_path / "labels/train/a.txt")
    write(tmp_path / "train.txt", "data/images/train/a.png\n")
    write(tmp_path / "data.yaml", "names:\n  0: cat\n  1: dog\npath: ./\ntrain: train.txt\n")
    check_split(open_data(tmp_path), "all", ["a"])


# Darknet


def test_darknet_data_file(tmp_path: Path) -> None:
    for stem in "ab":
        write_yolo(tmp_path / "data/obj" / f"{stem}.png", tmp_path / "data/obj" / f"{stem}.txt")
    write(tmp_path / "data/train.txt", "data/obj/a.png\n")
    write(tmp_path / "data/test.txt", "data/obj/b.png\n")
    write(tmp_path / "data/obj.names", "cat\ndog\n")
    data = write(
        tmp_path / "data/obj.data",
        "classes = 2\ntrain  = data/train.txt\n# comment\n"
        "valid  = data/test.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    check_split(open_data(data), "train", ["a"])
    check_split(open_data(data), "val", ["b"])


def test_cvat_yolo_1_1_export(tmp_path: Path) -> None:
    write_yolo(tmp_path / "obj_train_data/a.png", tmp_path / "obj_train_data/a.txt")
    write(tmp_path / "train.txt", "data/obj_train_data/a.png\n")
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    check_split(open_data(tmp_path), "all", ["a"])
    check_split(open_data(tmp_path / "obj.data"), "all", ["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("classes = 2\n", "no line 'train = LIST'"), ("train = nowhere.txt\n", "nowhere.txt: no such list")],
)
def test_a_wrong_darknet_data_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_data(write(tmp_path / "obj.data", text))


def test_splits_of_one_source_share_their_classes(tmp_path: Path) -> None:
    for split, category in (("train", (1, "cat")), ("val", (1, "bird"))):
        write_image(tmp_path / split / "a.png")
        boxes = [(1, 1, JSON_BOX), (1, 2, JSON_BOX)]
        write(tmp_path / f"annotations/instances_{split}.json", coco_json(["a.png"], boxes, [category, (2, "dog")]))
    source = open_data(tmp_path)
    assert source.load("train").names == ("cat", "dog")
    val = source.load("val")
    assert val.names == ("cat", "dog")
    assert val.target(0).labels.tolist() == [1]
    assert {problem.kind for problem in val.problems} == {ProblemKind.UNKNOWN_CLASS}


# Labels that are not there, and what is held out


def test_images_without_a_label_file_are_background_and_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path / "images/train/a.png", tmp_path / "labels/train/a.txt")
    write_yolo(tmp_path / "images/val/a.png", tmp_path / "labels/val/a.txt")
    for stem in "bc":
        write_image(tmp_path / "images/train" / f"{stem}.png")
    source = open_data(tmp_path)
    dataset = source.load("train")
    assert [len(dataset.target(index)) for index in range(3)] == [1, 0, 0]
    assert "2 of 3 images have no label file" in note_about(source, "background")


def test_no_label_for_any_image_says_where_it_looked(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/a.png")
    yaml = write(tmp_path / "data.yaml", "train: images/train\nval: images/train\nnames: [cat]\n")
    with pytest.raises(UserError) as caught:
        open_data(yaml).load("train")
    assert "none of the 1 images of 'train' has a label file" in str(caught.value)
    assert f"{tmp_path}/labels/train/a.txt and {tmp_path}/images/train/a.txt" in str(caught.value)


@pytest.mark.slow
def test_a_tenth_of_train_is_held_out_where_there_is_no_val(tmp_path: Path) -> None:
    for number in range(60):
        write_yolo(tmp_path / f"{number}.png", tmp_path / f"{number}.txt")
    source = open_data(tmp_path)
    assert source.holds_out
    train, val, whole = source.load("train"), source.load("val"), source.load("all")
    assert set(train.paths) | set(val.paths) == set(whole.paths)
    assert not set(train.paths) & set(val.paths)
    assert 1 <= len(val) <= 15
    assert f"{len(val)} of 60 training images are held out" in note_about(source, "held out")
    # More images change nothing for those that were there.
    for number in range(60, 90):
        write_yolo(tmp_path / f"{number}.png", tmp_path / f"{number}.txt")
    assert set(val.paths) <= set(open_data(tmp_path).load("val").paths)
    assert set(train.paths) <= set(open_data(tmp_path).load("train").paths)


def test_two_images_are_enough_to_hold_one_out(tmp_path: Path) -> None:
    for stem in "ab":
        write_yolo(tmp_path / f"{stem}.png", tmp_path / f"{stem}.txt")
    assert len(open_data(tmp_path).load("val")) == len(open_data(tmp_path).load("train")) == 1


def test_copies_that_roboflow_made_of_one_image_are_held_out_together(tmp_path: Path) -> None:
    for number in range(40):
        for copy in range(3):
            stem = f"cell{number}_jpg.rf.{copy}abc{number:04d}"
            write_yolo(tmp_path / f"{stem}.png", tmp_path / f"{stem}.txt")
    whole = open_data(tmp_path).load("all")
    held_out = held_out_mask(whole)
    origins = [
        {Path(p).name.split(".rf.")[0] for p, out in zip(whole.paths, held_out, strict=True) if out == side}
        for side in (True, False)
    ]
    assert origins[0]
    assert not origins[0] & origins[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no such file or folder"), ("empty", "no data set is recognised"), ("x.jpg", "no data set: expected")],
)
def test_what_is_no_data_set_is_a_user_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    write_image(tmp_path / "x.jpg")
    with pytest.raises(UserError, match=message):
        open_data(tmp_path / name)


def test_a_split_that_does_not_exist_is_a_user_error(tmp_path: Path) -> None:
    write_yolo(tmp_path / "a.png", tmp_path / "a.txt")
    with pytest.raises(UserError, match="split"):
        open_data(tmp_path).load("test")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "cfg" / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_data_yaml_is_valid(path: Path, tmp_path: Path) -> None:
    assert set(open_data(path, tmp_path).layout.splits) == {"train", "val"}
