from __future__ import annotations

from pathlib import Path

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write

# Written by datumaro 1.13.0 (kitti_detection), which adds a score.
DATUMARO = (
    "cat 0.0 0 -1 5.0 6.0 25.0 30.0 -1 -1 -1 -1 -1 -1 -1 1.0\n"
    "dog 0.0 0 -1 10.5 2.0 40.0 20.25 -1 -1 -1 -1 -1 -1 -1 1.0\n"
    "DontCare 0.0 0 -1 1.0 2.0 3.0 9.0 -1 -1 -1 -1 -1 -1 -1 1.0\n"
)
# Written by labelformat 0.1.17: its class names have spaces.
LABELFORMAT = (
    "cat -1 -1 -10 5.0 6.0 25.0 30.0 -1 -1 -1 -1000 -1000 -1000 -10\n"
    "traffic light -1 -1 -10 10.5 2.0 40.0 20.25 -1 -1 -1 -1000 -1000 -1000 -10\n"
)


def test_a_data_set_that_datumaro_wrote(tmp_path: Path) -> None:
    write_images(tmp_path / "train/image_2", "a.png", "b.png")
    write(tmp_path / "train/label_2/a.txt", DATUMARO)
    dataset = load(tmp_path, "kitti")
    assert dataset.names == ("cat", "dog")
    assert rows_of(dataset) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "dog", [10.5, 2, 40, 20.25], False),
        ("a.png", "cat", [1, 2, 3, 9], True),  # of no class: an ignore region
    ]
    assert dataset.labelled.tolist() == [True, False]


def test_files_beside_images_that_labelformat_wrote(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png")
    write(tmp_path / "labels/a.txt", LABELFORMAT)
    dataset = load(tmp_path, "kitti")
    assert rows_of(dataset) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "traffic light", [10.5, 2, 40, 20.25], False),
    ]


def test_the_object_development_kit(tmp_path: Path) -> None:
    write_images(tmp_path / "training/image_2", "000000.png")
    write(tmp_path / "training/label_2/000000.txt", "Car 0.00 0 1.85 10.5 20.25 40 35 1.67 1.87 3.69 -16 2 58 1.57\n")
    assert rows_of(load(tmp_path, "kitti")) == [("000000.png", "Car", [10.5, 20.25, 40, 35], False)]


def test_lines_that_are_no_objects_are_reported(tmp_path: Path) -> None:
    write_images(tmp_path / "image_2", "a.png", "b.png")
    write(tmp_path / "label_2/a.txt", DATUMARO + "cat 1 2 3\n0 0.5 0.5 0.5 0.5\ncat 0 0 0 x 2 3 4 0 0 0 0 0 0 0\n")
    (tmp_path / "label_2/b.txt").write_bytes(b"\xff\xfe\x00")
    dataset = load(tmp_path, "kitti")
    assert len(rows_of(dataset)) == 3
    assert "line 4: 3 numbers" in reasons(dataset)
    assert len(dataset.problems) == 4
