"""Data sets written in another format are the same when they are read again, by this project and by others."""

from __future__ import annotations

import json
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.commands import call
from tests.data.trees import coco_json, voc_xml, write, write_image
from yolofpn.__main__ import main as yolofpn
from yolofpn.data import convert_labels as conversion
from yolofpn.data.convert_labels import convert_labels
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.data.writers import WRITERS
from yolofpn.errors import UserError

KEYS = [writer.key for writer in WRITERS]
NAMES = ("zebra", "apple & <pear>", "Grüße")  # neither in alphabetical order nor plain, and one that no object has
SIZES = {"a.png": (40, 60), "sub/b.png": (37, 53), "sub/deep/ä c.png": (50, 33), "empty.png": (20, 20)}
WITH_IGNORE = [key for key in KEYS if key != "yolo"]


def boxes_of(seed: int, height: int, width: int) -> list[list[float]]:
    """Whole-pixel, sub-pixel and edge-touching boxes, [x, y, width, height]."""
    rng = random.Random(seed)
    x, y = round(rng.uniform(1, width / 2), 2), round(rng.uniform(1, height / 2), 3)
    return [[0, 0, width, height], [x, y, 7.25, 5.01], [width - 3.3, 0, 3.3, 1.5], [2, 3, 4, 5]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits; an ignore region, an annotated area, subfolders, and images without an object."""
    folder = tmp_path_factory.mktemp("source")
    for split, sizes in {"train": SIZES, "val": {"a.png": (41, 61)}}.items():
        tree: dict[str, Any] = {
            "categories": [{"id": i, "name": n} for i, n in zip((7, 3 + 7, 90), NAMES, strict=True)]
        }
        tree |= {"images": [], "annotations": []}
        for number, (name, (height, width)) in enumerate(sizes.items()):
            write_image(folder / "images" / split / name, height, width, number + len(split))
            image_id = 1000 * len(split) + number
            tree["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
            for place, box in enumerate([] if name == "empty.png" else boxes_of(number, height, width)):
                extra = {"area": 11.5} if place == 3 else {}
                entry = {"image_id": image_id, "category_id": (7, 10)[place % 2], "bbox": box, **extra}
                tree["annotations"].append(entry | {"id": len(tree["annotations"]) + 1, "iscrowd": int(place == 2)})
        write(folder / "annotations" / f"instances_{split}.json", json.dumps(tree))
    return folder


Row = tuple[str, str, tuple[float, ...], bool]


def rows_of(data: Path, split: str = "all", digits: int = 4) -> list[Row]:
    """(width of the image, class, box, ignore) of each object; images are told by their sizes."""
    dataset = open_data(data).load(split)
    return rows(dataset, digits)


def rows(dataset: DetectionDataset, digits: int = 4) -> list[Row]:
    assert not [problem for problem in dataset.problems if "clipped" in problem.reason]
    widths = [str(width) for width in dataset.sizes[dataset.image_index][:, 1].tolist()]
    boxes = np.round(dataset.boxes.astype(np.float64), digits).tolist()
    names = [dataset.names[label] for label in dataset.labels]
    found = list(zip(widths, names, map(tuple, boxes), dataset.ignore.tolist(), strict=True))
    return sorted(found)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("images", ["copy", "link", "none"])
def test_what_is_read_again_is_the_same(key: str, images: Any, source: Path, tmp_path: Path) -> None:
    if key == "webdataset" and images == "none":
        pytest.skip("shards hold their images")
    out = tmp_path / "out"
    result = convert_labels(source, out, key, images=images)
    assert result.failures == []
    for split in ("all", "val"):
        original, again = (open_data(data).load(split) for data in (source, out))
        assert again.names == NAMES
        assert sorted(map(tuple, again.sizes.tolist())) == sorted(map(tuple, original.sizes.tolist()))
        expected = [row for row in rows(original) if key in WITH_IGNORE or not row[3]]
        assert rows(again) == expected
        if key in WITH_IGNORE:  # not one bit is lost where the target has numbers in pixels
            exact = key != "label-studio"
            both = [np.sort(dataset.boxes, axis=0) for dataset in (original, again)]
            np.testing.assert_allclose(both[1], both[0], rtol=0, atol=0 if exact else 1e-5)
    if key == "webdataset":
        assert not list(out.rglob("*.png"))
        return
    present = {path.resolve() for path in out.rglob("*.png")}
    assert {path.is_symlink() for path in out.rglob("*.png")} == ({images == "link"} if images != "none" else set())
    assert len(present) == (0 if images == "none" else len(SIZES) + 1)
    assert not list(tmp_path.glob(".*"))


def test_coco_keeps_ids_and_areas(source: Path, tmp_path: Path) -> None:
    convert_labels(source, tmp_path / "out", "coco")
    original, again = (open_data(data).load("all") for data in (source, tmp_path / "out"))
    assert again.image_ids.tolist() == original.image_ids.tolist()
    assert again.category_ids == (7, 10, 90)
    assert again.areas.tolist() == original.areas.tolist()
    assert 11.5 in again.areas
    entry = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"][2]
    assert entry["bbox"] == [56.7, 0, 3.3, 1.5]  # as they were written, not 3.2999992370605469


@pytest.mark.parametrize("key", KEYS)
def test_losses_are_counted(key: str, source: Path, tmp_path: Path) -> None:
    lines = [line for line in convert_labels(source, tmp_path / "out", key).lines if line.startswith("lost")]
    said = {word: [line for line in lines if word in line] for word in ("ignore", "areas", "ids", "unlabelled")}
    assert ["4" in line for line in said["ignore"]] == ([True] if key == "yolo" else [])
    assert ["4 polygons" in line for line in said["areas"]] == [True]
    assert len(said["ids"]) == (key != "coco")
    assert ["1 images" in line for line in said["unlabelled"]] == ([True] if key == "cvat" else [])


@pytest.mark.parametrize(("corners", "expected"), [("devkit", ["3", "4", "6", "8"]), ("cvat", ["2", "3", "6", "8"])])
def test_the_convention_of_voc_corners(corners: str, expected: list[str], source: Path, tmp_path: Path) -> None:
    convert_labels(source, tmp_path / "out", "voc", write_corners=corners)
    (tmp_path / "out/data.yaml").unlink()  # the files alone tell whose corners they are
    box = ElementTree.parse(tmp_path / "out/Annotations/sub__b.xml").findall("object/bndbox")[3]
    assert [side.text for side in box] == expected
    assert [row[2] for row in rows_of(tmp_path / "out")] == [row[2] for row in rows_of(source)]


def test_every_format_into_every_other_and_back(source: Path, tmp_path: Path) -> None:
    """coco -> voc -> cvat -> labelme -> label-studio -> coco: nothing but ids and areas changes."""
    before, expected = source, rows_of(source, digits=3)
    for key in ("voc", "cvat", "labelme", "label-studio", "coco"):
        convert_labels(before, tmp_path / key, key, images="link")
        before = tmp_path / key
        assert rows_of(before, digits=3) == expected


def test_label_files_of_equal_names_do_not_meet(tmp_path: Path) -> None:
    """a.png and a.jpg in one folder, and one name in two folders of a format that has no folders."""
    boxes = {"a.png": [1, 1, 9, 9], "a.jpg": [2, 2, 9, 9], "x/a.png": [3, 3, 9, 9]}
    for name in boxes:
        write_image(tmp_path / "in/images" / name)
    listed = [(number, 1, box) for number, box in enumerate(boxes.values(), start=1)]
    write(tmp_path / "in/annotations/instances_train.json", coco_json(list(boxes), listed))
    for key in ("yolo", "voc", "labelme"):
        convert_labels(tmp_path / "in", tmp_path / key, key)
        assert [row[2][0] for row in rows_of(tmp_path / key)] == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "voc/JPEGImages").iterdir()) == ["a-2.jpg", "a.png", "x__a.png"]
    result = convert_labels(tmp_path / "in", tmp_path / "none", "yolo", images="none")
    assert len(result.failures) == 1 and "same label file" in result.failures[0]


def test_bad_labels_are_reported_and_the_rest_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = [("cat", [2, 2, 10, 10])]
    write_image(tmp_path / "in/a.png")
    write(tmp_path / "in/a.xml", voc_xml([*good, ("cat", [5, 5, 5, 9]), ("dog", [200, 200, 300, 300])]))
    write_image(tmp_path / "in/b.png", seed=1)
    write(tmp_path / "in/b.xml", "<annotation><object>")
    outcome = call(yolofpn, capsys, "convert-labels", tmp_path / "in", tmp_path / "out", "--format", "coco")
    assert outcome.code == 1
    assert len([line for line in outcome.err.splitlines() if line.startswith("failed:")]) == 3
    assert rows_of(tmp_path / "out") == [("60", "cat", (1, 1, 10, 10), False)]


def test_the_output_must_be_new_or_empty_and_is_written_whole(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    words = ("convert-labels", source, "--format", "voc")
    assert call(yolofpn, capsys, *words, tmp_path / "empty", "--split", "val").code == 0
    assert not (tmp_path / "empty/ImageSets/Main/train.txt").exists()
    again = call(yolofpn, capsys, *words, tmp_path / "empty")
    assert again.code == 2 and "empty" in again.err
    assert call(yolofpn, capsys, *words, tmp_path / "new", "data.rooot=x").code == 2
    assert call(yolofpn, capsys, *words, tmp_path / "new", "--split", "nothing").code == 2

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yolofpn.data.convert_labels.shutil.copyfile", fail)
    full = call(yolofpn, capsys, *words, tmp_path / "new")
    assert full.code == 2 and "space" in full.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_an_unreadable_image_costs_only_itself(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shutil import copyfile

    def fail(path: Path, target: Path) -> None:
        if path.name == "b.png":
            raise OSError(5, "Input/output error", str(path))
        copyfile(path, target)

    monkeypatch.setattr("yolofpn.data.convert_labels.shutil.copyfile", fail)
    result = convert_labels(source, tmp_path / "out", "coco")
    assert [line.split(":")[0].endswith("b.png") for line in result.failures] == [True]
    assert {row[0] for row in rows_of(tmp_path / "out")} == {"60", "33"}


@pytest.mark.parametrize("late", [False, True])
def test_an_image_that_cannot_be_packed_costs_only_itself(
    late: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone when its turn comes, or its disk fails when it is read."""
    shutil.copytree(source, tmp_path / "in")
    lost = next(tmp_path.glob("in/images/train/**/b.png"))
    owner, name = (conversion, "pack_shards") if late else (conversion._Job, "write")
    begin = getattr(owner, name)

    def lose(*arguments: Any) -> Any:
        lost.unlink(missing_ok=True)
        return begin(*arguments)

    monkeypatch.setattr(owner, name, lose)
    result = convert_labels(tmp_path / "in", tmp_path / "out", "webdataset")
    assert [line.split(":")[0] for line in result.failures] == [str(lost)]
    assert rows_of(tmp_path / "out") == [row for row in rows_of(source) if row[0] != "53"]
    with tarfile.open(tmp_path / "out" / "train" / "train-000000.tar") as tar:
        assert not [name for name in tar.getnames() if name.startswith("sub__b.")] and len(tar.getnames()) == 5
    assert sorted(path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()) == [".tar", ".tar", ".yaml"]


def test_a_split_without_labels_is_skipped(source: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "in/images/train/a.png")
    write(tmp_path / "in/labels/train/a.txt", "0 .5 .5 .5 .5\n")
    write_image(tmp_path / "in/images/test/b.png", seed=1)
    write(tmp_path / "in/data.yaml", "train: images/train\ntest: images/test\nnames: [cat]\n")
    result = convert_labels(tmp_path / "in", tmp_path / "out", "voc")
    assert len(result.failures) == 1 and result.failures[0].startswith("test")
    assert len(rows_of(tmp_path / "out")) == 1
    with pytest.raises(UserError):
        convert_labels(tmp_path / "in", tmp_path / "other", "voc", splits=["test"])


# Other readers


def same(found: list[Any], expected: list[Row], tolerance: float = 0.011) -> None:
    assert [row[:2] for row in sorted(found)] == [row[:2] for row in expected]
    for one, other in zip(sorted(found), expected, strict=True):
        assert one[2] == pytest.approx(other[2], abs=tolerance)


DATUMARO = {
    "coco": ("coco_instances", "is_crowd"),
    "yolo": ("yolo", None),
    "voc": ("voc_detection", "difficult"),
    "cvat": ("cvat", "difficult"),
}


@pytest.mark.parametrize("key", DATUMARO)
def test_datumaro_reads_what_was_written(key: str, source: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    name, mark = DATUMARO[key]
    corners = "cvat"  # datumaro takes VOC's corners for 0-based edges
    convert_labels(source, tmp_path / "out", key, splits=["train"], write_corners=corners)
    dataset = datumaro.Dataset.import_from(str(tmp_path / "out"), name)
    labels = [category.name for category in dataset.categories()[datumaro.AnnotationType.label].items]
    found = []
    for item in dataset:
        _, width = item.media.size
        for box in item.annotations:
            x, y, w, h = box.get_bbox()
            ignore = bool(mark and box.attributes.get(mark))
            found.append((str(width), labels[box.label], (x, y, x + w, y + h), ignore))
    assert [label for label in labels if label in NAMES] == list(NAMES)
    same(found, [row for row in rows_of(source) if mark or not row[3]])


@pytest.mark.slow
@pytest.mark.parametrize("key", ["coco", "yolo", "voc"])
def test_supervision_reads_what_was_written(key: str, source: Path, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    out = tmp_path / "out"
    convert_labels(source, out, key, splits=["train"])
    if key == "coco":
        dataset = supervision.DetectionDataset.from_coco(
            str(out / "images/train"), str(out / "annotations/instances_train.json")
        )
    elif key == "yolo":
        dataset = supervision.DetectionDataset.from_yolo(
            str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml")
        )
    else:
        dataset = supervision.DetectionDataset.from_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    found = []
    for _, image, boxes in dataset:
        for box, label in zip(boxes.xyxy.tolist(), boxes.class_id.tolist(), strict=True):
            found.append((str(image.shape[1]), dataset.classes[label], tuple(box), False))
    same(found, [row for row in rows_of(source) if key != "yolo" or not row[3]])
    dataset.as_coco(str(tmp_path / "back/images/train"), str(tmp_path / "back/annotations/instances_train.json"))
    same([(*row[:3], False) for row in rows_of(tmp_path / "back")], sorted(found))


@pytest.mark.parametrize("key", ["coco", "cvat", "labelme"])
def test_globox_reads_what_was_written(key: str, source: Path, tmp_path: Path) -> None:
    globox = pytest.importorskip("globox")
    out = tmp_path / "out"
    convert_labels(source, out, key, splits=["train"])
    if key == "coco":
        read = globox.AnnotationSet.from_coco(out / "annotations/instances_train.json")
    elif key == "cvat":
        read = globox.AnnotationSet.from_cvat(out / "train.xml")
    else:
        read = globox.AnnotationSet.from_labelme(out / "train")
    widths = {name.split("/")[-1]: str(width) for name, (_, width) in SIZES.items()}
    found = [
        (
            widths[image.image_id.replace("__", "/").split("/")[-1]],
            box.label,
            (box.xmin, box.ymin, box.xmax, box.ymax),
            False,
        )
        for image in read
        for box in image.boxes
    ]
    same(found, [(*row[:3], False) for row in rows_of(source)])


def test_label_studio_s_converter_reads_what_was_written(source: Path, tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter")
    out = tmp_path / "out"
    convert_labels(source, out, "label-studio", splits=["train"])
    convert = converter.Converter((out / "label_config.xml").read_text(), str(out), download_resources=False)
    convert.convert_to_coco(str(out / "train.json"), str(tmp_path / "coco"), is_dir=False)
    tree = json.loads((tmp_path / "coco/result.json").read_text())
    labels = {category["id"]: category["name"] for category in tree["categories"]}
    widths = {image["id"]: str(image["width"]) for image in tree["images"]}
    found = [(widths[a["image_id"]], labels[a["category_id"]], a["bbox"]) for a in tree["annotations"]]
    boxes = [(width, name, (x, y, x + w, y + h), False) for width, name, (x, y, w, h) in found]
    same(boxes, [(*row[:3], False) for row in rows_of(source)])
