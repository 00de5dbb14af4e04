from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.trees import write, write_image
from yolofpn.data.dataset import DetectionDataset, ProblemKind
from yolofpn.data.formats.yolo_txt import class_range, parse_line, read_yolo


def read_one(folder: Path, text: str | None) -> DetectionDataset:
    image = write_image(folder / "a.png")  # 40 high, 60 wide
    label = folder / "a.txt"
    if text is not None:
        write(label, text)
    return read_yolo([image], [label], ["cat", "dog"])


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("1 0.5 0.5 0.2 0.4", (0.4, 0.3, 0.6, 0.7)),
        ("1 5e-1 5.0E-01 2e-1 .4", (0.4, 0.3, 0.6, 0.7)),
        ("1\t0.5 0.5  0.2 0.4 0.87", (0.4, 0.3, 0.6, 0.7)),  # a detector's score
        ("1 0.1 0.2 0.5 0.3 0.3 0.9", (0.1, 0.2, 0.5, 0.9)),  # a triangle
        ("1 0.1 0.1 0.4 0.1 0.4 0.3 0.1 0.3", (0.1, 0.1, 0.4, 0.3)),  # a rectangle by its corners
        ("1.0 0.5 0.5 1 1", (0, 0, 1, 1)),
    ],
)
def test_a_line_is_a_box_or_a_polygon(line: str, box: tuple[float, ...]) -> None:
    label, found = parse_line(line, num_classes=2)
    assert label == 1
    assert found == pytest.approx(box)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.2 0.2", "class 2 is not one of 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "class -1"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5"),
        ("dog 0.5 0.5 0.2 0.2", "not numbers"),
        ("1 0.5 0.5 0.2", "4 numbers are neither"),
        ("1 0.1 0.2 0.5 0.3 0.3 0.9 0.4", "8 numbers are neither"),
        ("1", "1 numbers are neither"),
        ("1 nan 0.5 0.2 0.2", "not a finite number"),
        ("1 0.5 0.5 inf 0.2", "not a finite number"),
        ("1 320 240 50 40", "pixels"),
        ("nan 0.5 0.5 0.2 0.2", "class nan"),
        ("inf 0.5 0.5 0.2 0.2", "class inf"),
    ],
)
def test_a_line_that_is_neither_says_why(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_line(line, num_classes=2)


def test_boxes_are_in_pixels_of_the_image(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, "\ufeff0 0.5 0.5 1 1\r\n\r\n1 0.25 0.5 0.1 0.2\r\n")
    assert dataset.target(0).boxes.flatten().tolist() == pytest.approx([0, 0, 60, 40, 12, 16, 18, 24])
    assert dataset.target(0).labels.tolist() == [0, 1]
    assert dataset.sizes.tolist() == [[40, 60]]
    assert dataset.problems == ()


@pytest.mark.parametrize(("text", "labelled"), [("", True), ("\n \n", True), (None, False)])
def test_no_lines_and_no_file_are_background(tmp_path: Path, text: str | None, labelled: bool) -> None:
    dataset = read_one(tmp_path, text)
    assert len(dataset.target(0)) == 0
    assert dataset.labelled.tolist() == [labelled]
    assert dataset.problems == ()


def test_a_bad_line_costs_only_itself(tmp_path: Path) -> None:
    dataset = read_one(tmp_path, "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n1 0.5 0.5 0.4 0.4\n")
    assert dataset.target(0).labels.tolist() == [0, 1]
    assert [(p.kind, Path(p.file).name, p.reason.split(":")[0]) for p in dataset.problems] == [
        (ProblemKind.UNKNOWN_CLASS, "a.txt", "line 2"),
        (ProblemKind.ZERO_AREA, "a.txt", "line 3"),
    ]


def test_a_label_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\x80")
    dataset = read_one(tmp_path, None)
    assert [p.kind for p in dataset.problems] == [ProblemKind.MALFORMED]
    assert dataset.labelled.tolist() == [False]


def test_the_range_of_class_numbers(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "1.txt", "1 .5 .5 .1 .1\n4.0e+00 .5 .5 .1 .1\n"),
        write(tmp_path / "2.txt", "2 .5 .5 .1 .1\n"),
    ]
    assert class_range([*files, tmp_path / "none.txt"]) == (1, 4)
    assert class_range([]) is None
