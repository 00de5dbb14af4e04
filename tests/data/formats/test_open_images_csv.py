from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.formats.reading import load, rows_of, write_images
from tests.data.trees import write
from yolofpn.data.dataset import ProblemKind
from yolofpn.errors import UserError

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
# Written by datumaro 1.13.0.
DATUMARO = (
    HEAD + "a,,/m/cat,1,0.08333333333333333,0.4166666666666667,0.15,0.75,0,0,0,-1,-1\n"
    "a,,/m/dog,1,0.175,0.6666666666666666,0.05,0.50625,0,0,0,-1,-1\n"
    "a,,/m/dog,1,0.016666666666666666,0.05,0.05,0.225,0,0,1,-1,-1\n"
    "b,,/m/dog,1,0.0,1.0,0.0,1.0,0,0,0,-1,-1\n"
)
# Written by globox 2.9.0: with suffixes, and cells without a value.
GLOBOX = HEAD + "a.png,,cat,,0.08333333333333333,0.4166666666666667,0.15,0.75,,,,,\n"


def test_a_data_set_that_datumaro_wrote(tmp_path: Path) -> None:
    write_images(tmp_path / "images/train", "a.png", "b.png")
    write(tmp_path / "annotations/train-annotations-bbox.csv", DATUMARO)
    write(tmp_path / "annotations/class-descriptions.csv", "/m/cat,cat\n/m/dog,dog\n")
    assert rows_of(load(tmp_path, "open-images")) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "dog", [10.5, 2, 40, 20.25], False),
        ("a.png", "dog", [1, 2, 3, 9], True),  # a group
        ("b.png", "dog", [0, 0, 60, 40], False),
    ]


def test_a_file_that_globox_wrote(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png")
    write(tmp_path / "boxes.csv", GLOBOX)
    assert rows_of(load(tmp_path, "open-images")) == [("a.png", "cat", [5, 6, 25, 30], False)]


def test_splits_and_bad_rows(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    write(
        tmp_path / "train-annotations-bbox.csv", HEAD + "a,,cat,1,x,0.5,0.1,0.5,0,0,0,0,0\na,,cat\na,,cat,1,0,1,0,1\n"
    )
    write(
        tmp_path / "validation-annotations-bbox.csv", HEAD + "b,,cat,1,0,1,0,1,0,0,0,0,0\nc,,cat,1,0,1,0,1,0,0,0,0,0\n"
    )
    dataset = load(tmp_path, "open-images")
    assert rows_of(dataset) == [("a.png", "cat", [0, 0, 60, 40], False)]
    assert [problem.kind for problem in dataset.problems] == [ProblemKind.MALFORMED] * 2
    yaml = write(tmp_path / "d.yaml", "format: open-images\nsplits: {train: {images: images, annotations: x.csv}}\n")
    write(tmp_path / "x.csv", "ImageID,LabelName\n")
    with pytest.raises(UserError, match="XMin"):
        load(yaml, "open-images")
