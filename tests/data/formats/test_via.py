from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write
from yolofpn.errors import UserError

# Written by globox 2.9.0.
GLOBOX = """{"a.png7308": {"filename": "a.png", "size": 7308, "regions": [{"shape_attributes": {"name": "rect", "x": 5,
"y": 6, "width": 20, "height": 24}, "region_attributes": {"label_id": "cat"}}, {"shape_attributes": {"name": "rect",
"x": 10.5, "y": 2, "width": 29.5, "height": 18.25}, "region_attributes": {"label_id": "dog"}}]}, "b.png24148":
{"filename": "b.png", "size": 24148, "regions": []}}"""

CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    'a.png,730,"{}",2,0,"{""name"":""rect"",""x"":5,""y"":6,""width"":20,""height"":24}","{""class"":""cat""}"\n'
    'a.png,730,"{}",2,1,"{""name"":""circle"",""cx"":30,""cy"":20,""r"":5}","{""class"":""dog""}"\n'
    'b.png,730,"{}",0,0,"{}","{}"\n'
)


def region(name: str = "rect", attributes: object = None, **shape: Any) -> dict[str, Any]:
    return {
        "shape_attributes": {"name": name, **shape},
        "region_attributes": {"class": "cat"} if attributes is None else attributes,
    }


def read(folder: Path, *regions: object) -> Any:
    write_images(folder, "a.png", "b.png")
    tree = {"a.png1": {"filename": "a.png", "size": 1, "regions": list(regions), "file_attributes": {}}}
    write(folder / "via_project.json", json.dumps({"_via_settings": {}, "_via_img_metadata": tree}))
    return load(folder, "via")


def test_annotations_that_globox_wrote(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    write(tmp_path / "via.json", GLOBOX)
    dataset = load(tmp_path, "via")
    assert rows_of(dataset) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "dog", [10.5, 2, 40, 20.25], False),
    ]
    assert dataset.labelled.tolist() == [True, True]


def test_csv(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    write(tmp_path / "via_export_csv.csv", CSV)
    dataset = load(tmp_path, "via")
    assert rows_of(dataset) == [("a.png", "cat", [5, 6, 25, 30], False), ("a.png", "dog", [25, 15, 35, 25], False)]
    assert len(dataset) == 2


def test_every_shape(tmp_path: Path) -> None:
    dataset = read(
        tmp_path,
        region("polygon", all_points_x=[5, 20, 9], all_points_y=[7, 3, 30]),
        region("ellipse", cx=30, cy=20, rx=10, ry=5),
        region("ellipse", cx=30, cy=20, rx=10, ry=5, theta=math.pi / 2),
        region("point", cx=3, cy=3),
    )
    assert [box for _, _, box, _ in rows_of(dataset)] == [[5, 3, 20, 30], [20, 15, 40, 25], [25, 10, 35, 30]]
    assert "region 4: a point" in reasons(dataset)


@pytest.mark.parametrize("attributes", [{"type": "dog"}, {"breed": "dog"}, {"name": {"cat": False, "dog": True}}])
def test_the_class_is_an_attribute(tmp_path: Path, attributes: dict[str, object]) -> None:
    dataset = read(tmp_path, region(attributes=attributes, x=1, y=1, width=5, height=5))
    assert dataset.names == ("dog",)


def test_odd_regions_are_reported_and_never_raise(tmp_path: Path) -> None:
    good = region(x=1, y=1, width=5, height=5)
    odd: list[object] = [
        None,
        5,
        {},
        {"shape_attributes": []},
        region(x="q", y=1),
        region("polygon", all_points_x=[1], all_points_y=[]),
    ]
    dataset = read(tmp_path, good, *odd, region(attributes={}, x=1, y=1, width=5, height=5))
    assert len(rows_of(dataset)) == 1
    assert len(dataset.problems) == len(odd) + 1
    with pytest.raises(UserError, match="region_attributes"):
        write(tmp_path / "x.csv", "filename,region_shape_attributes\n")
        write(tmp_path / "d.yaml", "format: via\nsplits: {train: {images: ., annotations: x.csv}}\n")
        load(tmp_path / "d.yaml", "via")
