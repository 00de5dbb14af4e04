from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write
from yolofpn.errors import UserError


def region(name: str, key: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    value = {"rotation": 0, **value, key: [name]}
    kind = key.removesuffix("labels")
    return {"original_width": 200, "original_height": 100, "image_rotation": 0, "value": value, "type": kind}


def task(image: str, *regions: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotation = {"id": 1, "result": list(regions), "was_cancelled": False}
    return {"id": 1, "data": {"image": image}, "annotations": [annotation], **more}


def read(folder: Path, *tasks: dict[str, Any]) -> Any:
    write_images(folder, "a.png", "b.png", height=100, width=200)
    write(folder / "project-1.json", json.dumps(list(tasks)))
    return load(folder, "label-studio")


def test_units_are_percent_and_rectangles_turn_about_their_top_left_corner(tmp_path: Path) -> None:
    regions = [
        region("cat", x=10, y=20, width=30, height=40),
        region("dog", x=50, y=25, width=20, height=10, rotation=90),  # clockwise: it hangs down, left of its corner
        region("dog", x=50, y=50, width=20, height=20, rotation=180),
        region("dog", x=50, y=10, width=10, height=10, rotation=45),  # 20 x 10 pixels: 30 / sqrt 2 wide and high
    ]
    assert rows_of(read(tmp_path, task("/data/upload/1/a.png", *regions))) == [
        ("a.png", "cat", [20, 20, 80, 60], False),
        ("a.png", "dog", [90, 25, 100, 65], False),
        ("a.png", "dog", [60, 30, 100, 50], False),
        ("a.png", "dog", [92.929, 10, 114.142, 31.213], False),
    ]


def test_ellipses_and_polygons(tmp_path: Path) -> None:
    dataset = read(
        tmp_path,
        task(
            "a.png",
            region("cat", "ellipselabels", x=50, y=50, radiusX=10, radiusY=20),
            region("cat", "ellipselabels", x=50, y=50, radiusX=10, radiusY=5, rotation=90),
            region("cat", "polygonlabels", points=[[10, 10], [20, 5], [15, 40]]),
            region("cat", "keypointlabels", x=1, y=1, width=1),
            region("cat", "brushlabels", format="rle", rle=[1, 2]),
        ),
    )
    assert [box for _, _, box, _ in rows_of(dataset)] == [[80, 30, 120, 70], [95, 30, 105, 70], [20, 5, 40, 40]]
    assert "region 4: a point" in reasons(dataset)
    assert "region 5: a brush mask" in reasons(dataset)


def test_images_keep_their_names_under_urls_of_the_server(tmp_path: Path) -> None:
    box = region("cat", x=10, y=10, width=10, height=10)
    local = read(tmp_path / "local", task("/data/local-files/?d=some/folder/a.png", box), task("http://x/y/b.png?z=1"))
    assert [Path(path).name for path in local.paths] == ["a.png", "b.png"]
    assert local.labelled.tolist() == [True, True]
    uploaded = read(tmp_path / "uploaded", task("/data/upload/3/0f9a0b1c-a.png", box), task("s3://bucket/b.png"))
    assert [Path(path).name for path in uploaded.paths] == ["a.png", "b.png"]


def test_tasks_without_annotations_are_unlabelled(tmp_path: Path) -> None:
    box = region("cat", x=10, y=10, width=10, height=10)
    cancelled = {"result": [region("dog", x=1, y=1, width=9, height=9)], "was_cancelled": True}
    first = task("a.png", box)
    first["annotations"].insert(0, cancelled)
    dataset = read(tmp_path, first, {"data": {"image": "b.png"}, "annotations": [cancelled]})
    assert rows_of(dataset) == [("a.png", "cat", [20, 10, 40, 20], False)]
    assert dataset.labelled.tolist() == [True, False]


def test_the_minimal_form(tmp_path: Path) -> None:
    value = {"x": 50, "y": 25, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["cat"]}
    entry = {
        "image": "/data/upload/1/a.png",
        "id": 1,
        "label": [value | {"original_width": 200, "original_height": 100}],
    }
    assert rows_of(read(tmp_path, entry)) == [("a.png", "cat", [90, 25, 100, 65], False)]


@pytest.mark.parametrize("tree", [{"original_width": 1, "original_height": 1, "rotation": 1}, [1, "original_width"]])
def test_what_is_no_list_of_tasks(tmp_path: Path, tree: object) -> None:
    write_images(tmp_path, "a.png")
    write(tmp_path / "x.json", json.dumps(tree))
    data = write(tmp_path / "d.yaml", "format: label-studio\nsplits: {train: {images: ., annotations: x.json}}\n")
    with pytest.raises(UserError, match="Label Studio"):
        load(data, "label-studio")


def test_odd_values_are_reported_and_never_raise(tmp_path: Path) -> None:
    odd: list[Any] = [None, 7, {"value": {"rectanglelabels": 5}}, {"value": {"rectanglelabels": []}}, {"value": None}]
    odd += [region("cat", x="1", y=None, width=5, height=5), region("cat", x=1e308, y=1, width=5, height=5)]
    odd += [region("cat", "polygonlabels", points=[[1], "x"]), region("cat", x=5, y=5, width=5, height=5, rotation="x")]
    dataset = read(tmp_path, task("a.png", *odd), {"data": None, "annotations": []}, {"data": {"image": 5}})
    assert rows_of(dataset) == [("a.png", "cat", [10, 5, 20, 10], False)]
    assert len(dataset.problems) >= 4
