"""The sections of a detector, and what a weights file knows of itself."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.config.files import write_config
from yolofpn.config import Config, Metadata, PostprocessConfig, load_config
from yolofpn.errors import UserError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.neck.lateral=false", "model.neck.top_down=false"], "together leave the levels without input"),
        (["model.neck.levels=[5, 4]"], "must be ascending"),
        (["model.neck.levels=[4, 4]"], "must be ascending"),
        (["model.neck.levels=[]"], "must be ascending"),
        (["model.neck.levels=[5]", "model.neck.lateral=false"], "lateral: false changes nothing"),
        (["model.neck.levels=[5]"], "top_down: true has nowhere to go"),
        (["model.neck.channels=[8, 8, 8]"], "3 channels for the 2 levels [4, 5] that are built"),
        (["model.neck.levels=[4]", "model.neck.channels=[8]"], "1 channels for the 2 levels [4, 5] that are built"),
    ],
)
def test_switches_that_contradict_each_other(tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(write_config(tmp_path), overrides)
    assert str(error.value).startswith(f"{tmp_path / 'model.yaml'}: model.neck: ")
    assert said in str(error.value)


@pytest.mark.parametrize("levels", ["[1, 2]", "[5, 6]"])
def test_levels_that_no_backbone_has(tmp_path: Path, levels: str) -> None:
    with pytest.raises(UserError, match=r"model\.neck\.levels\.[01]: Input should be"):
        load_config(write_config(tmp_path), [f"model.neck.levels={levels}"])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.backbone={type: darknet, rank: 1.01}", "model.backbone"),
        ("model.backbone={type: darknet, rank: 0}", "model.backbone"),
        ("model.backbone={type: darknet_tiny, rank: 1025}", "model.backbone"),
        ("model.neck.rank=1.01", "model.neck.rank"),
        ("model.head={type: yolo, anchors: [[[9, 9]], [[9, 9]]], channels: [16, 8], ranks: [null, 9]}", "model.head"),
    ],
)
def test_ranks_that_no_kernel_has(tmp_path: Path, override: str, key: str) -> None:
    with pytest.raises(UserError, match=key):
        load_config(write_config(tmp_path), [override])


@pytest.mark.parametrize(
    "override",
    [
        "model.backbone={type: darknet, rank: 1}",
        "model.backbone={type: darknet_tiny, rank: 1024}",
        "model.neck.rank=1",
        "model.head={type: yolo, anchors: [[[9, 9]], [[9, 9]]], channels: [16, 8], ranks: [null, 8]}",
    ],
)
def test_the_largest_ranks(tmp_path: Path, override: str) -> None:
    assert isinstance(load_config(write_config(tmp_path), [override]), Config)


@pytest.mark.parametrize("count", [0, 2])
def test_metadata_belongs_to_exactly_one_network(config: Config, count: int) -> None:
    networks = {"model": config.model, "darknet_cfg": "[net]"} if count else {}
    with pytest.raises(ValidationError, match="exactly"):
        Metadata.model_validate({"names": ("a",), **networks})


def test_metadata_counts_agree() -> None:
    with pytest.raises(ValidationError, match="1 category ids for 2 names"):
        Metadata(darknet_cfg="[net]", names=("a", "b"), category_ids=(1,))
    with pytest.raises(ValidationError, match="3 score thresholds for 2 names"):
        Metadata(darknet_cfg="[net]", names=("a", "b"), postprocess=PostprocessConfig(score_thresh=(0.1, 0.2, 0.3)))
