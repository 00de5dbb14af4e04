from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write


def labelme(*shapes: tuple[str, str, list[list[float]]], image: str = "a.png") -> str:
    entries: list[dict[str, Any]] = [{"label": name, "shape_type": kind, "points": p} for name, kind, p in shapes]
    return json.dumps({"version": "5.5.0", "shapes": entries, "imagePath": image, "imageHeight": 40, "imageWidth": 60})


def test_corners_in_any_order_polygons_and_ignore_regions(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    shapes = [
        ("cat", "rectangle", [[25.0, 6.0], [5.0, 30.0]]),
        ("cat", "polygon", [[1.0, 2.0], [9.0, 4.0], [3.0, 12.0]]),
        ("__ignore__", "rectangle", [[40.0, 10.0], [50.0, 20.0]]),
        ("_background_", "rectangle", [[40.0, 10.0], [50.0, 20.0]]),
    ]
    write(tmp_path / "a.json", labelme(*shapes))
    dataset = load(tmp_path, "labelme")
    assert dataset.names == ("cat",)
    assert rows_of(dataset) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "cat", [1, 2, 9, 12], False),
        ("a.png", "cat", [40, 10, 50, 20], True),
    ]
    assert "shape 4" in reasons(dataset)


def test_files_in_a_folder_of_their_own_name_their_images(tmp_path: Path) -> None:
    """As supervision 0.31.0 writes them: images in one folder, files in another."""
    write_images(tmp_path / "images", "a.png", "b.png")
    write(tmp_path / "annotations/a.json", labelme(("cat", "rectangle", [[5.0, 6.0], [25.0, 30.0]])))
    dataset = load(tmp_path, "labelme")
    assert rows_of(dataset) == [("a.png", "cat", [5, 6, 25, 30], False)]
    assert dataset.labelled.tolist() == [True, False]
