import base64
import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write
from yolofpn.data.layouts import open_data

META = {"classes": [{"title": "zebra", "shape": "any", "color": "#D0021B"}, {"title": "apple", "shape": "rectangle"}]}


def shape(kind: str, name: str, **values: Any) -> dict[str, Any]:
    return {"id": 1, "classId": 2, "geometryType": kind, "classTitle": name, "tags": [], **values}


def corners(*points: tuple[float, float]) -> dict[str, Any]:
    return {"points": {"exterior": [list(point) for point in points], "interior": []}}


def bitmap(height: int, width: int, origin: tuple[int, int]) -> dict[str, Any]:
    png = cv2.imencode(".png", np.full((height, width), 255, np.uint8))[1].tobytes()
    return {"bitmap": {"data": base64.b64encode(zlib.compress(png)).decode(), "origin": list(origin)}}


def annotation(*objects: dict[str, Any]) -> str:
    return json.dumps({"description": "", "tags": [], "size": {"height": 40, "width": 60}, "objects": objects})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "meta.json", json.dumps(META))
    write_images(tmp_path, "ds0/img/a.jpg", "ds0/img/a.png", "ds0/img/none.jpg", "val/img/b.jpg")
    shapes = [
        shape("rectangle", "apple", **corners((10, 5), (29, 14))),  # the last pixel belongs to it
        shape("rectangle", "apple", **corners((10.5, 5.25), (30, 15))),  # edges between pixels
        shape("polygon", "zebra", **corners((1, 2), (11, 2), (11, 22))),
        shape("bitmap", "zebra", **bitmap(3, 4, (6, 5))),
        shape("point", "zebra", **corners((1, 2))),
        shape("bitmap", "zebra", bitmap={"data": "###", "origin": [1, 1]}),
    ]
    write(tmp_path / "ds0/ann/a.jpg.json", annotation(*shapes))
    write(tmp_path / "ds0/ann/a.png.json", annotation())
    write(tmp_path / "val/ann/b.jpg.json", annotation(shape("rectangle", "zebra", **corners((0, 0), (59, 39)))))
    return tmp_path


def test_a_project(folder: Path) -> None:
    dataset = load(folder, "supervisely")
    assert dataset.names == ("zebra", "apple")
    assert rows_of(dataset) == [
        ("a.jpg", "apple", [10, 5, 30, 15], False),
        ("a.jpg", "apple", [10.5, 5.25, 30, 15], False),
        ("a.jpg", "zebra", [1, 2, 12, 23], False),
        ("a.jpg", "zebra", [6, 5, 10, 8], False),
    ]
    assert "point" in reasons(dataset) and len(dataset.problems) == 2
    assert dataset.labelled.tolist() == [True, True, False]
    assert rows_of(open_data(folder).load("val")) == [("b.jpg", "zebra", [0, 0, 60, 40], False)]


def test_a_damaged_file_costs_only_its_image(folder: Path) -> None:
    write(folder / "ds0/ann/a.png.json", "{")
    dataset = load(folder, "supervisely")
    assert len(dataset.boxes) == 4
    assert "JSON" in reasons(dataset)
