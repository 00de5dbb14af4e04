from pathlib import Path

import pytest

from tests.data.formats.reading import load, reasons, rows_of, write_images
from tests.data.trees import write
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError

# Written by datumaro 1.13.12.
LABELS = """"infos":{},"categories":{"label":{"labels":[{"name":"zebra","parent":"","attributes":[]},{"name":"apple",
"parent":"","attributes":[]}],"label_groups":[],"attributes":[]}}"""
TRAIN = f"""{{"dm_format_version":"1.0","media_type":2,{LABELS},"items":[{{"id":"a","annotations":[
{{"id":0,"type":"bbox","attributes":{{"difficult":true}},"group":0,"label_id":1,"z_order":0,"bbox":[10.0,5.0,20.5,10.25]}},
{{"id":0,"type":"polygon","attributes":{{}},"group":0,"label_id":0,"points":[1.0,2.0,11.0,2.0,11.0,22.0],"z_order":0}},
{{"id":0,"type":"mask","attributes":{{}},"group":0,"label_id":0,"rle":{{"counts":"e73U100000[n1","size":[40,60]}},
"z_order":0}},
{{"id":0,"type":"ellipse","attributes":{{}},"group":0,"label_id":1,"points":[2.0,3.0,12.0,13.0],"z_order":0}},
{{"id":0,"type":"points","attributes":{{}},"group":0,"label_id":0,"points":[1.0,2.0],"z_order":0,"visibility":[2]}},
{{"id":0,"type":"label","attributes":{{}},"group":0,"label_id":0}},
{{"id":0,"type":"bbox","attributes":{{}},"group":0,"label_id":null,"z_order":0,"bbox":[1.0,1.0,2.0,2.0]}}],
"image":{{"path":"a.jpg","size":[40,60]}}}}]}}"""
VAL = f"""{{"dm_format_version":"1.0","media_type":2,{LABELS},"items":[{{"id":"sub/b","annotations":[],
"image":{{"path":"sub_b.jpg","size":[40,60]}}}}]}}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, "images/train/a.jpg", "images/val/sub_b.jpg")
    write(tmp_path / "annotations/train.json", TRAIN)
    write(tmp_path / "annotations/val.json", VAL)
    return tmp_path


def test_a_data_set_that_datumaro_wrote(folder: Path) -> None:
    dataset = load(folder, "datumaro")
    assert dataset.names == ("zebra", "apple")
    assert rows_of(dataset) == [
        ("a.jpg", "apple", [10, 5, 30.5, 15.25], True),
        ("a.jpg", "zebra", [1, 2, 11, 22], False),
        ("a.jpg", "zebra", [6, 5, 10, 8], False),
        ("a.jpg", "apple", [2, 3, 12, 13], False),
    ]
    assert "points" in reasons(dataset) and "no label" in reasons(dataset)
    assert len(dataset.problems) == 2
    assert "3 polygons" in dataset.notes[0]
    source = open_data(folder)
    assert source.layout.splits.keys() == {"train", "val"}


def test_damaged_files_are_named(folder: Path) -> None:
    write(folder / "annotations/train.json", TRAIN.replace('"items":[', '"items":{').replace("}]}", "}}}"))
    with pytest.raises(UserError):
        open_data(folder).load("train")
    write(folder / "annotations/train.json", TRAIN.replace("[10.0,5.0,20.5,10.25]", '["x",5.0]'))
    assert "finite" in reasons(load(folder, "datumaro"))
