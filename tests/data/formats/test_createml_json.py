from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.formats.reading import load, rows_of, write_images
from tests.data.trees import write
from yolofpn.errors import UserError

# Written by supervision 0.31.0.
SUPERVISION = """[{"image": "a.png", "annotations": [
{"label": "cat", "coordinates": {"x": 15.0, "y": 18.0, "width": 20.0, "height": 24.0}},
{"label": "dog", "coordinates": {"x": 25.25, "y": 11.125, "width": 29.5, "height": 18.25}}]},
{"image": "b.png", "annotations": []}]"""


def test_a_file_that_supervision_wrote(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    write(tmp_path / "annotations.json", SUPERVISION)
    dataset = load(tmp_path, "createml")
    assert rows_of(dataset) == [
        ("a.png", "cat", [5, 6, 25, 30], False),
        ("a.png", "dog", [10.5, 2, 40, 20.25], False),
    ]
    assert dataset.labelled.tolist() == [True, True]


def test_roboflow_puts_it_among_the_images_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / split, "a.png", "b.png")
        write(tmp_path / split / "_annotations.createml.json", SUPERVISION)
    dataset = load(tmp_path, "createml")
    assert len(rows_of(dataset)) == 2


def test_odd_entries_are_reported_and_never_raise(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    odd = [None, {}, {"label": "cat"}, {"label": "cat", "coordinates": {"x": 1}}]
    good = {"label": "cat", "coordinates": {"x": "15", "y": 18, "width": 20, "height": 24}}
    tree = [{"image": "a.png", "annotations": [good, *odd]}, {"image": 5}, {"annotations": []}]
    write(tmp_path / "x.json", json.dumps(tree))
    dataset = load(tmp_path, "createml")
    assert rows_of(dataset) == [("a.png", "cat", [5, 6, 25, 30], False)]
    assert len(dataset.problems) == len(odd)
    write(tmp_path / "x.json", json.dumps({"image": [], "annotations": [], "coordinates": [], "label": 0}))
    with pytest.raises(UserError, match="CreateML"):
        load(tmp_path, "createml")
