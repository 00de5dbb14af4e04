from __future__ import annotations

import json
from pathlib import Path

import pytest

from yolofpn.data.class_names import (
    COCO_CATEGORY_IDS,
    COCO_NAMES,
    VOC_NAMES,
    coco_category_ids,
    match_classes,
    normalise_name,
    read_names,
)
from yolofpn.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.slow
def test_coco_table_equals_the_annotations(data_dir: Path) -> None:
    document = json.loads((data_dir / "coco128/annotations/instances_train2017.json").read_text())
    assert [(c["id"], c["name"]) for c in document["categories"]] == list(
        zip(COCO_CATEGORY_IDS, COCO_NAMES, strict=True)
    )


def test_darknets_coco_names_differ_in_six_spellings_and_mean_the_same(data_dir: Path) -> None:
    darknet = read_names(data_dir / "darknet/coco.names")
    differing = [ours for theirs, ours in zip(darknet, COCO_NAMES, strict=True) if theirs != ours]
    assert differing == ["motorcycle", "airplane", "couch", "potted plant", "dining table", "tv"]
    assert coco_category_ids(darknet) == COCO_CATEGORY_IDS
    match = match_classes(darknet, (), COCO_NAMES, COCO_CATEGORY_IDS)
    assert match.how == "name"
    assert match.mapping == tuple(range(80))


def test_voc_table_equals_darknets(data_dir: Path) -> None:
    assert read_names(data_dir / "darknet/voc.names") == VOC_NAMES


def test_category_ids_only_for_all_of_coco_in_order() -> None:
    assert coco_category_ids(COCO_NAMES[::-1]) == ()
    assert coco_category_ids(COCO_NAMES[:79]) == ()
    assert coco_category_ids(("cat",)) == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Traffic_Light", "traffic light"),
        ("hot-dog", "hotdog"),
        ("motorbike", "Motorcycle"),
        ("aeroplane", "airplane"),
        ("sofa", "couch"),
        ("pottedplant", "potted plant"),
        ("diningtable", "dining table"),
        ("TV monitor", "tv"),
        ("Cafe\u0301", "caf\u00e9"),
    ],
)
def test_spellings_of_one_class(one: str, other: str) -> None:
    assert normalise_name(one) == normalise_name(other)


def test_different_classes_stay_different() -> None:
    assert len({normalise_name(name) for name in COCO_NAMES}) == 80
    assert normalise_name("-") != normalise_name("_")


def test_match_by_category_id_survives_a_renamed_class() -> None:
    renamed = tuple("mobile phone" if name == "cell phone" else name for name in COCO_NAMES)
    match = match_classes(COCO_NAMES, COCO_CATEGORY_IDS, renamed, COCO_CATEGORY_IDS)
    assert match.how == "category id"
    assert match.mapping == tuple(range(80))


def test_match_by_category_id_of_a_subset_in_another_order() -> None:
    match = match_classes(("person", "car", "dog"), (1, 3, 18), ("dog", "person", "zebra"), (18, 1, 24))
    assert match.how == "category id"
    assert match.mapping == (1, None, 0)
    assert match.unmatched_weights == ("car",)
    assert match.unmatched_data == ("zebra",)
    assert str(match) == (
        "classes: 2 of the weights' 3 matched by category id; only in the weights: car; only in the data: zebra"
    )


def test_own_numbering_from_one_is_not_taken_for_cocos_ids() -> None:
    match = match_classes(COCO_NAMES, COCO_CATEGORY_IDS, ("dog", "person", "helmet"), (1, 2, 3))
    assert match.how == "name"
    assert {label: data for label, data in enumerate(match.mapping) if data is not None} == {0: 1, 16: 0}
    assert match.unmatched_data == ("helmet",)


def test_ids_that_agree_mostly_but_shift_one_name_are_not_believed() -> None:
    weights = (("person", "bicycle", "car", "bus"), (1, 2, 3, 6))
    data = (("person", "bicycle", "car", "bus"), (1, 2, 3, 4))
    assert match_classes(*weights, *data).how == "name"


def test_coco_names_numbered_from_zero_match_by_name() -> None:
    match = match_classes(COCO_NAMES, COCO_CATEGORY_IDS, COCO_NAMES, tuple(range(80)))
    assert match.how == "name"
    assert match.mapping == tuple(range(80))


def test_match_coco_weights_with_voc_data_by_name() -> None:
    match = match_classes(COCO_NAMES, COCO_CATEGORY_IDS, VOC_NAMES, ())
    assert match.how == "name"
    assert match.unmatched_data == ()
    assert len(match.unmatched_weights) == 60
    assert match.mapping[COCO_NAMES.index("couch")] == VOC_NAMES.index("sofa")


def test_match_by_order_needs_equal_counts() -> None:
    match = match_classes(("0", "1"), (), ("cat", "dog"), ())
    assert (match.how, match.mapping, match.unmatched_data) == ("order", (0, 1), ())
    none = match_classes(("0", "1", "2"), (), ("cat", "dog"), ())
    assert (none.how, none.mapping) == (None, (None, None, None))
    assert (none.unmatched_weights, none.unmatched_data) == (("0", "1", "2"), ("cat", "dog"))


def test_labels_are_no_category_ids() -> None:
    same = match_classes(("cat", "dog"), (0, 1), ("Cat", "dog"), (0, 1))
    assert (same.how, same.mapping) == ("name", (0, 1))
    renamed = match_classes(("cat", "dog", "cow"), (0, 1, 2), ("cat", "dog", "calf"), (0, 1, 2))
    assert (renamed.how, renamed.mapping) == ("order", (0, 1, 2))


def test_a_name_held_twice_is_matched_once() -> None:
    match = match_classes(("tv", "tvmonitor"), (), ("cat", "tv"), ())
    assert match.mapping == (1, None)


def test_ids_must_be_as_many_as_names() -> None:
    with pytest.raises(ValueError, match="1 category ids for 2 names"):
        match_classes(("a", "b"), (1,), ("a",), ())


@pytest.mark.parametrize("name", ["x.names", "classes.txt"])
def test_read_lines(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "\ufeffcat\r\n  guide dog \r\n\r\n\r\n")
    assert read_names(path) == ("cat", "guide dog")


@pytest.mark.parametrize(
    "text",
    ["nc: 2\nnames: [cat, dog]\n", "names:\n  1: dog\n  0: cat\n", "names: {'0': cat, '1': dog}\n"],
)
def test_read_yaml_list_and_mapping(tmp_path: Path, text: str) -> None:
    assert read_names(write(tmp_path / "data.yaml", text)) == ("cat", "dog")


def test_read_yaml_with_numbers_as_names(tmp_path: Path) -> None:
    assert read_names(write(tmp_path / "data.yml", "names: [0, 1]\n")) == ("0", "1")


def test_read_darknet_data_as_written_then_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cfg").mkdir()
    (tmp_path / "data").mkdir()
    data = write(tmp_path / "cfg/x.data", "classes= 1\n# names = no.names\nnames = data/x.names\nbackup = b\n")
    write(tmp_path / "data/x.names", "from here\n")
    monkeypatch.chdir(tmp_path)
    assert read_names(data) == ("from here",)
    monkeypatch.chdir(tmp_path / "cfg")
    with pytest.raises(UserError, match="no such file"):
        read_names(data)
    write(tmp_path / "cfg/x.names", "beside\n")
    assert read_names(data) == ("beside",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.names", b"", "holds no class names"),
        ("a.names", b"\n\n", "holds no class names"),
        ("a.names", b"cat\n\ndog\n", "line 2 is blank"),
        ("a.names", b"\xff\xfe\x00", "not a text file"),
        ("a.yaml", b"train: x\n", "has no class names"),
        ("a.yaml", b"names: cat\n", "has no class names"),
        ("a.yaml", b"names: []\n", "has no class names"),
        ("a.yaml", b"names: {1: cat, 2: dog}\n", "numbered 0 to 1"),
        ("a.yaml", b"names: [cat, null]\n", "class 1 is None"),
        ("a.data", b"classes = 3\n", "has no line 'names = FILE'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_names(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_names(tmp_path / "none.names")
    with pytest.raises(UserError, match="Is a directory"):
        read_names(tmp_path)
