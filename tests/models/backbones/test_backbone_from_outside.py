"""A backbone from outside the package trains, is stored, and detects: the example of docs/extending.md."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training.small import CFG, write_cfg, write_images
from yolofpn.cli.detect import main as detect
from yolofpn.cli.train import main as train
from yolofpn.config import load_config
from yolofpn.errors import UserError
from yolofpn.models import backbones
from yolofpn.models.backbones.base import Backbone
from yolofpn.models.backbones.section import BackboneConfig, Pretrained
from yolofpn.structures import FeatureInfo
from yolofpn.weights import load_weights


class Patches(Backbone):
    """Patches of 4x4 pixels, merged by twos: feature maps c2 .. c5."""

    conv5 = "merge.3"

    def __init__(self, width: int, top_level: int) -> None:
        super().__init__()
        widths = [width * 2**step for step in range(top_level - 1)]
        self.merge = nn.ModuleList([nn.Conv2d(3, width, 4, 4)])
        self.merge.extend(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairwise(widths))
        self.feature_info = {f"c{k}": FeatureInfo(widths[k - 2], 2**k) for k in range(2, top_level + 1)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> {"c2": [B, width, H/4, W/4], ... "c5": [B, 8 * width, H/32, W/32]}."""
        features = {}
        for level, merge in zip(self.feature_info, self.merge, strict=True):
            features[level] = x = merge(x).relu()
        return features


class PatchesConfig(BackboneConfig):
    """Its section: ``{type: patches, width: 8}``."""

    type: Literal["patches"]
    width: int = 8

    def build(self, norm_eps: float, top_level: int) -> Patches:
        """It has no batch norm."""
        return Patches(self.width, top_level)

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """Files whose first tensor is called ``patch.weight``."""
        if "patch.weight" not in tensors:
            return None
        config = cls(type="patches", width=len(tensors["patch.weight"]))
        return Pretrained("Patches", config, {"merge.0.weight": tensors["patch.weight"]})


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(backbones, "BACKBONES", (*backbones.BACKBONES, PatchesConfig))
    monkeypatch.chdir(tmp_path)
    return write_cfg(tmp_path, CFG.replace("{type: strided, width: 8}", "{type: patches, width: 4}"))


@pytest.mark.slow
def test_it_trains_from_its_pretrained_file_and_detects(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("data"), 4)
    save_file({"patch.weight": torch.full((4, 3, 4, 4), 0.01)}, "patches.safetensors")
    words = ["--cfg", str(cfg), "--data", "data", "--weights", "patches.safetensors", "--epochs", "1"]
    assert train([*words, "--output", "run", "train.optimizer.lr=1e-9", "train.ema_decay=0"]) == 0
    assert "1 of " in capsys.readouterr().out

    loaded = load_weights("run")
    assert loaded.metadata.model is not None
    assert loaded.metadata.model.backbone == PatchesConfig(type="patches", width=4)
    first = loaded.detector.state_dict()["backbone.merge.0.weight"]
    assert torch.allclose(first, torch.full_like(first, 0.01), atol=1e-4)

    assert detect(["data/images/val/val0.png", "--weights", "run", "--backend", "torch", "--output", "found"]) == 0
    assert Path("found/detections.jsonl").read_text().count("\n") == 1


def test_its_section_is_checked_like_any_other(cfg: Path) -> None:
    with pytest.raises(UserError, match=r"model\.backbone\.witdh: unknown key \(did you mean 'width'\?\)"):
        load_config(cfg, ["model.backbone.witdh=4"])
    with pytest.raises(UserError, match=r"'darknet53'.*'patches'"):
        load_config(cfg, ["model.backbone.type=patch"])


def test_a_pretrained_file_of_another_width_is_refused(cfg: Path) -> None:
    write_images(Path("data"), 4)
    save_file({"patch.weight": torch.zeros(8, 3, 4, 4)}, "wide.safetensors")
    assert train(["--cfg", str(cfg), "--data", "data", "--weights", "wide.safetensors", "--output", "run"]) == 2
