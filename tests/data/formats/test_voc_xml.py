from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.trees import voc_xml, write, write_image
from yolofpn.data.dataset import DetectionDataset, ProblemKind
from yolofpn.data.formats.voc_xml import read_voc, survey_voc
from yolofpn.data.layouts import open_data

CONFIGS = Path(__file__).parents[3] / "cfg" / "data"


def read_one(folder: Path, xml: str | None, names: tuple[str, ...] = ("cat", "dog")) -> DetectionDataset:
    image = write_image(folder / "a.png")
    annotation = folder / "a.xml"
    if xml is not None:
        write(annotation, xml)
    return read_voc([image], [annotation], names)


def test_inclusive_corners_from_one_become_outer_corners(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, voc_xml([("dog", (1, 1, 60, 40)), ("cat", (11, 21, 20, 22))]))
    assert dataset.target(0).boxes.tolist() == [[0, 0, 60, 40], [10, 20, 20, 22]]
    assert dataset.target(0).labels.tolist() == [1, 0]
    assert dataset.target(0).areas.tolist() == [2400, 20]
    assert dataset.problems == ()


def test_corners_may_have_fractions(tmp_path: Path) -> None:
    xml = "<annotation><folder>VOC2012</folder>" + voc_xml([("dog", (1.5, 2.25, 30.5, 20))])[len("<annotation>") :]
    dataset = read_one(tmp_path, xml)
    assert dataset.target(0).boxes.tolist() == [[0.5, 1.25, 30.5, 20]]


def test_a_box_of_equal_corners_has_no_area_although_they_are_inclusive(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, voc_xml([("dog", (7, 9, 7, 9)), ("dog", (8, 9, 7, 20))]))
    assert len(dataset.boxes) == 0
    assert [(p.kind, Path(p.file).name) for p in dataset.problems] == [(ProblemKind.ZERO_AREA, "a.xml")] * 2
    assert dataset.problems[0].reason == "object 1: dog [7, 9, 7, 9] has no area: dropped"
    assert dataset.labelled.tolist() == [True]


def test_difficult_objects_are_ignored(tmp_path: Path) -> None:
    xml = voc_xml([("dog", (1, 1, 9, 9))], extra="<difficult>1</difficult>")
    assert read_one(tmp_path, xml).target(0).ignore.tolist() == [True]
    xml = voc_xml([("dog", (1, 1, 9, 9))], extra="<difficult>0</difficult>")
    assert read_one(tmp_path, xml).target(0).ignore.tolist() == [False]


def test_boxes_of_parts_are_not_boxes_of_the_object(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    dataset = read_one(tmp_path, voc_xml([("dog", (11, 11, 20, 20))], extra=part))
    assert dataset.target(0).boxes.tolist() == [[10, 10, 20, 20]]
    only_a_part = f"<annotation><object><name>dog</name>{part}</object></annotation>"
    dataset = read_one(tmp_path, only_a_part)
    assert len(dataset.boxes) == 0
    assert "has no bndbox" in dataset.problems[0].reason


@pytest.mark.parametrize("size", ["<size><width>0</width><height>0</height></size>", "", "<size/>"])
def test_a_size_of_zero_is_read_from_the_image(tmp_path: Path, size: str) -> None:
    xml = voc_xml([("dog", (1, 1, 100, 100))])
    start, end = xml.index("<size>"), xml.index("</size>") + len("</size>")
    dataset = read_one(tmp_path, xml[:start] + size + xml[end:])
    assert dataset.sizes.tolist() == [[40, 60]]
    assert dataset.target(0).boxes.tolist() == [[0, 0, 60, 40]]


def test_names_match_in_any_spelling_and_unknown_ones_are_reported(tmp_path: Path) -> None:
    objects = [("motorbike", (1, 1, 9, 9)), ("Potted_Plant", (1, 1, 8, 8)), ("ghost", (1, 1, 7, 7))]
    dataset = read_one(tmp_path, voc_xml(objects), ("pottedplant", "motorcycle"))
    assert dataset.target(0).labels.tolist() == [1, 0]
    assert [p.kind for p in dataset.problems] == [ProblemKind.UNKNOWN_CLASS]
    assert "'ghost'" in dataset.problems[0].reason


def test_corners_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    xml = voc_xml([("dog", (1, 1, 9, 9))]).replace("<xmax>9</xmax>", "<xmax>wide</xmax>")
    dataset = read_one(tmp_path, xml)
    assert len(dataset.boxes) == 0
    assert dataset.problems[0].kind == ProblemKind.MALFORMED


def test_damaged_and_missing_xml_leave_a_background_image(tmp_path: Path) -> None:
    damaged = read_one(tmp_path / "damaged", "<annotation><object>")
    assert damaged.labelled.tolist() == [False]
    assert [p.kind for p in damaged.problems] == [ProblemKind.MALFORMED]
    missing = read_one(tmp_path / "missing", None)
    assert missing.labelled.tolist() == [False]
    assert missing.problems == ()


def test_an_unreadable_image_is_left_out(tmp_path: Path) -> None:
    image = write(tmp_path / "a.jpg", "no image")
    dataset = read_voc([image], [tmp_path / "a.xml"], ["dog"])
    assert len(dataset) == 0
    assert [(p.kind, p.file) for p in dataset.problems] == [(ProblemKind.UNREADABLE_IMAGE, str(image))]


def test_class_names_are_collected_once_each(tmp_path: Path) -> None:
    one = write(tmp_path / "1.xml", voc_xml([("sofa", (1, 1, 2, 2)), ("Boat", (1, 1, 2, 2))]))
    two = write(tmp_path / "2.xml", voc_xml([("boat", (1, 1, 2, 2)), ("ant", (1, 1, 2, 2))]))
    assert survey_voc([one, two, tmp_path / "none.xml"]).names == ("ant", "Boat", "sofa")


@pytest.mark.slow
def test_bccd_has_two_boxes_without_area(data_dir: Path) -> None:
    source = open_data(CONFIGS / "bccd.yaml", data_dir / "bccd" / "BCCD")
    train, val = source.load("train"), source.load("val")
    assert (len(train), len(val)) == (205, 87)
    assert train.names == ("RBC", "WBC", "Platelets")
    found = {Path(p.file).stem for p in (*train.problems, *val.problems) if p.kind == ProblemKind.ZERO_AREA}
    assert found == {"BloodImage_00338", "BloodImage_00343"}
    every = "".join(path.read_text() for path in (data_dir / "bccd" / "BCCD" / "Annotations").glob("*.xml"))
    assert len(train.boxes) + len(val.boxes) == every.count("<object>") - 2


@pytest.mark.slow
def test_the_val_split_of_voc_reads_without_a_problem(data_dir: Path) -> None:
    source = open_data(CONFIGS / "voc.yaml", data_dir / "voc")
    val = source.load("val")
    assert (len(val), len(val.names)) == (500, 20)
    assert val.problems == ()
    folder = data_dir / "voc" / "Annotations"
    every = "".join((folder / Path(path).with_suffix(".xml").name).read_text() for path in val.paths)
    assert len(val.boxes) == every.count("<object>")
    assert int(val.ignore.sum()) == every.count("<difficult>1")
