"""From config to detector with the backbones beside Darknet's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.cases import make_target
from tests.models.small import small_config, small_model
from yolofpn.models.backbones.resnet import ResNet
from yolofpn.models.backbones.strided import StridedBackbone
from yolofpn.models.layers import FrozenBatchNorm2d

SHARED: dict[str, object] = {"type": "add", "channels": 8, "smooth": "shared"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "kind", "c5", "neck"),
    [
        ({"type": "resnet", "depth": 18}, ResNet, 512, {"type": "concat"}),
        ({"type": "resnet", "depth": 50, "norm": "frozen"}, ResNet, 2048, SHARED),
        ({"type": "strided", "width": 4}, StridedBackbone, 64, {"type": "concat"}),
    ],
    ids=str,
)
def test_other_backbones_under_both_fusions(
    backbone: dict[str, object], kind: type[nn.Module], c5: int, neck: dict[str, object]
) -> None:
    """An image whose maps have odd sizes goes through; frozen batch norm is what the config says."""
    with torch.device("meta"):
        model = small_model(small_config(neck, backbone=backbone))
        maps = model.eval().dense(torch.zeros(1, 3, 160, 224, dtype=torch.uint8))
    assert isinstance(model.backbone, kind)
    assert model.backbone(torch.zeros(1, 3, 32, 32, device="meta"))["c5"].shape[1] == c5
    assert {name: tuple(x.shape[2:]) for name, x in maps.items()} == {"p3": (20, 28), "p4": (10, 14), "p5": (5, 7)}
    frozen = any(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.modules())
    assert frozen == (backbone.get("norm") == "frozen")
    shared = [name for name in model.neck.state_dict() if name.startswith("smooth.")]
    assert bool(shared) == (neck.get("smooth") == "shared")


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", [{"type": "resnet", "depth": 18, "norm": "frozen"}, {"type": "strided", "width": 4}], ids=str
)
def test_every_parameter_of_other_backbones_learns(backbone: dict[str, object]) -> None:
    model = small_model(small_config(SHARED, backbone=backbone))
    target = make_target([(5, 9, 40, 50), (30, 30, 40, 41)], [1, 0])
    losses = model(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8), [target])
    assert isinstance(losses, dict)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters, allow_unused=True)
    assert [name for name, g in zip(names, gradients, strict=True) if g is None or not g.any()] == []
