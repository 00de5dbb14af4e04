"""ImageNet ResNets as a start: torchvision's files under their own names, and everything that only looks like one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.models.small import small_config
from yolofpn.config import Config, InputConfig, ModelConfig, load_config
from yolofpn.errors import UserError
from yolofpn.models.backbones.resnet import ResNet
from yolofpn.models.build import build_model
from yolofpn.training.start import adapt_config, kernel_of, read_starting_weights, take_over

pytestmark = pytest.mark.slow

TINY = """
model:
  backbone: {type: resnet, depth: 18, norm: NORM}
  neck: {type: add, levels: [4, 5], channels: 8}
  head: {type: yolo, anchors: [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]}
"""


def tiny(folder: Path, norm: str = "frozen") -> Config:
    path = folder / "tiny.yaml"
    path.write_text(TINY.replace("NORM", norm))
    return load_config(path)


def model_of(backbone: dict[str, object]) -> ModelConfig:
    return small_config({"type": "add", "channels": 8}, backbone=backbone)


@cache
def imagenet_state() -> dict[str, Tensor]:
    """Random numbers under the names of torchvision's file; for reading only."""
    with torch.device("meta"):
        shapes = ResNet(18).state_dict()
    numbers = {name: torch.rand(each.shape) for name, each in shapes.items() if each.is_floating_point()}
    counters = {name: torch.tensor(7) for name in shapes.keys() - numbers.keys()}
    return {**numbers, **counters, "fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``imagenet_state`` as torchvision keeps it; for reading only."""
    path = tmp_path_factory.mktemp("imagenet") / "resnet18.pth"
    torch.save(imagenet_state(), path)
    return path


@pytest.mark.parametrize(("kind", "norm"), [("safetensors", "live"), ("pth", "frozen"), ("without counters", "live")])
def test_every_tensor_of_the_backbone_is_taken(tmp_path: Path, pth: Path, kind: str, norm: str) -> None:
    config, state, path = tiny(tmp_path, norm), imagenet_state(), pth
    if kind == "safetensors":
        path = tmp_path / "resnet18.safetensors"
        save_file(state, path)
    elif kind == "without counters":
        path = tmp_path / "resnet18.pth"
        torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    model = build_model(config.model, 3, config.input, config.postprocess)
    line = take_over(model, ("a", "b", "c"), (), read_starting_weights(str(path), config.model))
    # 20 convolutions of one tensor and 20 norms of four.
    assert (
        line.startswith("weights: 100 of ")
        and "resnet18" in line
        and line.endswith("neck.p5, neck.p4, head.p4, head.p5")
    )
    own = model.state_dict()
    backbone = [name for name in own if name.startswith("backbone.") and "num_batches" not in name]
    assert len(backbone) == 100
    assert all(torch.equal(own[name], state[name.removeprefix("backbone.")]) for name in backbone)


def test_their_input_comes_along(tmp_path: Path, pth: Path) -> None:
    config = tiny(tmp_path)
    start = read_starting_weights(str(pth), config.model)
    adapted, lines = adapt_config(config, start)
    assert adapted.input.mean == (0.485, 0.456, 0.406) and adapted.input.std == (0.229, 0.224, 0.225)
    assert [line.split(":")[0] for line in lines] == ["input.mean", "input.std"]
    fixed = config.model_copy(update={"input": InputConfig(mean=(0, 0, 0))})
    with pytest.raises(
        UserError, match=r"input.mean: the cfg says \[0.0, 0.0, 0.0\], but .*resnet18.pth was trained with"
    ):
        adapt_config(fixed, start)


def test_another_epsilon_is_said_and_tolerated(tmp_path: Path, pth: Path) -> None:
    """The YAML for torchvision's COCO weights fixes 0, and may start from ImageNet's all the same."""
    config = tiny(tmp_path)
    start = read_starting_weights(str(pth), config.model)
    fixed = ModelConfig.model_validate({**config.model.model_dump(), "norm_eps": 0.0})
    adapted, lines = adapt_config(config.model_copy(update={"model": fixed}), start)
    assert adapted.model.norm_eps == 0.0
    assert any(line.startswith("model.norm_eps: 0, as the cfg says, though") for line in lines)


@pytest.mark.parametrize(
    ("backbone", "wanted"),
    [
        ({"type": "resnet", "depth": 34}, "resnet, depth: 34"),
        ({"type": "resnet", "depth": 50}, "resnet, depth: 50"),
        ({"type": "darknet19"}, "darknet19"),
    ],
    ids=str,
)
def test_another_backbone_is_refused(pth: Path, backbone: dict[str, object], wanted: str) -> None:
    said = rf"holds ResNet-18, but model.backbone is .type: {wanted}.\nset model.backbone to .*depth: 18"
    with pytest.raises(UserError, match=said):
        read_starting_weights(str(pth), model_of(backbone))


def test_a_resnet_of_other_widths_is_refused(tmp_path: Path) -> None:
    state = imagenet_state() | {"layer1.0.conv1.weight": torch.rand(128, 64, 3, 3)}
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(UserError, match="no ResNet"):
        read_starting_weights(str(tmp_path / "wide.pth"), model_of({"type": "resnet", "depth": 18}))


def test_batch_norm_goes_with_its_convolution() -> None:
    assert kernel_of("backbone.layer1.0.bn2.running_var") == "backbone.layer1.0.conv2.weight"
    assert kernel_of("backbone.layer2.0.downsample.1.bias") == "backbone.layer2.0.downsample.0.weight"
    assert kernel_of("backbone.bn1.weight") == "backbone.conv1.weight"
    assert kernel_of("backbone.conv1.weight") == "backbone.conv1.weight"
    assert kernel_of("neck.p5.smooth.bias") == "neck.p5.smooth.weight"
    assert kernel_of("neck.p4.block.0.norm.running_mean") == "neck.p4.block.0.conv.weight"
