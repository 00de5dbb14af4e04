"""The stored form of metadata: old files stay readable whatever the settings are called."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.config.files import write_config
from yolofpn.config import (
    DarknetHeader,
    InputConfig,
    Metadata,
    ModelConfig,
    PostprocessConfig,
    StrictModel,
    load_config,
    stored,
)
from yolofpn.config.explain import sections
from yolofpn.config.stored import dump_metadata, from_stored, migrate, parse_metadata, stored_keys, to_stored
from yolofpn.errors import UserError
from yolofpn.models import backbones
from yolofpn.weights import load_weights

VERSION_1 = Path(__file__).parents[1] / "stored" / "version-1.safetensors"
# What the file says, written down from its bytes.
TREE_1: dict[str, Any] = {
    "format_version": 1,
    "model": {
        "backbone": {"type": "strided", "width": 1},
        "neck": {"type": "add", "levels": [4, 5], "top_down": True, "lateral": True, "upsample": "nearest"}
        | {"channels": 1, "smooth": "per_level"},
        "head": {
            "type": "yolo",
            "anchors": [[[16.0, 16.0]], [[32.0, 48.0]]],
            "scale_x_y": 1.0,
            "xy": "logistic",
            "classes": "sigmoid",
            "channels": None,
            "loss": {
                "assigner": {"type": "best_anchor", "ignore_iou_thresh": 0.5, "positive_iou_thresh": None},
                "box": "ciou",
                "iou_aware_classes": True,
                "focal_gamma": 0.0,
                "box_weight": 5.0,
                "objectness_weight": 1.0,
                "class_weight": 1.0,
            },
        },
        "norm_eps": 0.0001,
        "leaky_slope": 0.1,
    },
    "darknet_cfg": None,
    "input": {"size": [64, 96], "resize": "stretch", "depth": "auto", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.25]},
    "postprocess": {"score_thresh": [0.1, 0.2], "nms_thresh": 0.6, "detections_per_img": 7},
    "names": ["cat", "guide dog"],
    "category_ids": [17, 18],
    "header": None,
    "card": "A card.",
}


def test_weights_of_version_1_load() -> None:
    loaded = load_weights(VERSION_1)
    metadata = loaded.metadata
    assert (metadata.names, metadata.category_ids, metadata.card) == (("cat", "guide dog"), (17, 18), "A card.")
    assert metadata.input == InputConfig(size=(64, 96), resize="stretch", mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    assert metadata.postprocess == PostprocessConfig(score_thresh=(0.1, 0.2), nms_thresh=0.6, detections_per_img=7)
    images = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    maps = loaded.detector.dense(images)
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"p4": (1, 7, 4, 6), "p5": (1, 7, 2, 3)}


def test_the_stored_form_is_what_version_1_wrote() -> None:
    """Other keys in new files, or other meanings of old ones, need a new version and a step of ``migrate``."""
    metadata = load_weights(VERSION_1).metadata
    tree = copy.deepcopy(TREE_1)
    tree["model"]["head"]["ranks"] = None  # added since
    assert json.loads(dump_metadata(metadata)) == tree
    assert from_stored(TREE_1, "x") == metadata


def every_section(section: type[StrictModel]) -> set[type[StrictModel]]:
    inner = {each for info in section.model_fields.values() for each in sections(info)}
    return {section}.union(*(every_section(each) for each in inner))


def test_every_setting_has_a_stored_key() -> None:
    """So a setting that is renamed, added or removed cannot change the stored form unnoticed."""
    for section in every_section(Metadata):
        if section not in backbones.BACKBONES:
            assert section in stored._KEYS, section
        keys = stored_keys(section)
        assert sorted(keys.values()) == sorted(section.model_fields), section


class Thresholds(StrictModel):
    """``PostprocessConfig`` after one of its settings was renamed."""

    score_thresh: float = 0.25
    nms_threshold: float = 0.45
    detections_per_img: int = 300


class Renamed(StrictModel):
    """Metadata after another one was."""

    type: Literal["renamed"] = "renamed"
    after: Thresholds
    class_names: tuple[str, ...]


def test_renaming_a_setting_leaves_stored_files_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    old = {
        "type": "renamed",
        "postprocess": {"score_thresh": 0.5, "nms_thresh": 0.6, "detections_per_img": 7},
        "names": ["a"],
    }
    keys = {
        Thresholds: "score_thresh nms_thresh:nms_threshold detections_per_img",
        Renamed: "type postprocess:after names:class_names",
    }
    monkeypatch.setattr(stored, "_KEYS", keys)
    read = Renamed.model_validate(stored._settings(Renamed, old))
    assert read == Renamed(
        after=Thresholds(score_thresh=0.5, nms_threshold=0.6, detections_per_img=7), class_names=("a",)
    )
    assert json.loads(json.dumps(stored._stored(read))) == old


def test_an_older_version_is_brought_to_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(tree: dict[str, object]) -> dict[str, object]:
        return {**{key: value for key, value in tree.items() if key != "labels"}, "names": tree["labels"]}

    monkeypatch.setattr(stored, "FORMAT_VERSION", 3)
    monkeypatch.setattr(stored, "_STEPS", {1: first, 2: lambda tree: {**tree, "card": "new"}})
    assert migrate({"labels": ["a"]}, 1) == {"names": ["a"], "card": "new"}
    assert migrate({"names": ["a"]}, 3) == {"names": ["a"]}
    metadata = from_stored({"format_version": 1, "darknet_cfg": "[net]", "labels": ["a"]}, "x")
    assert (metadata.names, metadata.card) == (("a",), "new")


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_other_versions_are_refused_with_their_origin(version: object) -> None:
    with pytest.raises(UserError, match=r"w\.safetensors: has format version"):
        from_stored({"format_version": version, "names": [], "darknet_cfg": ""}, "w.safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors: has format version None"):
        from_stored([], "w.safetensors")


def test_metadata_survives_being_stored(tmp_path: Path) -> None:
    native = Metadata(
        model=load_config(write_config(tmp_path)).model,
        names=("red", "grün"),
        category_ids=(3, 17),
        postprocess=PostprocessConfig(score_thresh=(0.1, 0.3)),
        header=DarknetHeader(major=0, minor=2, revision=5, seen=2**40),
    )
    head = {"type": "rcnn", "anchors": {"sizes": [[32.0], [64.0]]}, "roi": {"size": 14}}
    neck = {"type": "none", "levels": [4, 5]}
    model = ModelConfig.model_validate({"backbone": {"type": "resnet", "depth": 50}, "neck": neck, "head": head})
    for metadata in (native, Metadata(model=model, names=("a",)), Metadata(darknet_cfg="[net]", names=("a",))):
        assert parse_metadata(dump_metadata(metadata), Path("x")) == metadata
        assert to_stored(metadata)["format_version"] == 1
