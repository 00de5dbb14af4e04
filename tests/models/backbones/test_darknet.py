from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from yolofpn.models.backbones.darknet import (
    Darknet,
    Darknet19,
    DarknetClassifier,
    ResidualBlock,
    darknet53,
    scaled_darknet,
)
from yolofpn.models.layers import ConvBNAct


def convolutions(module: nn.Module) -> int:
    return sum(isinstance(child, nn.Conv2d) for child in module.modules())


def on_meta(build: type[Darknet19] | None = None) -> Darknet | Darknet19:
    with torch.device("meta"):
        return Darknet19() if build else darknet53()


def shapes(backbone: nn.Module, height: int, width: int) -> dict[str, tuple[int, ...]]:
    features: dict[str, Tensor] = backbone.eval()(torch.zeros(1, 3, height, width, device="meta"))
    return {name: tuple(feature.shape[1:]) for name, feature in features.items()}


def test_darknet53_is_52_convolutions_in_stages_of_1_2_8_8_4() -> None:
    backbone = on_meta()
    assert convolutions(backbone) == 52
    stages = [stage for stage in backbone.stages if isinstance(stage, nn.Sequential)]
    assert [sum(isinstance(block, ResidualBlock) for block in stage) for stage in stages] == [1, 2, 8, 8, 4]
    assert all(conv.bias is None for conv in backbone.modules() if isinstance(conv, nn.Conv2d))
    assert {act.negative_slope for act in backbone.modules() if isinstance(act, nn.LeakyReLU)} == {0.1}


def test_darknet53_holds_the_numbers_of_its_published_file() -> None:
    """darknet53.conv.74 has 162,482,580 bytes: a header of 20 and 4 for each number."""
    backbone = on_meta()
    buffers = [b for name, b in backbone.named_buffers() if "running" in name]
    assert sum(t.numel() for t in [*backbone.parameters(), *buffers]) == (162_482_580 - 20) // 4


@pytest.mark.slow
def test_darknet53_maps_by_table_1_of_the_paper() -> None:
    assert shapes(on_meta(), 256, 256) == {
        "c2": (128, 64, 64),
        "c3": (256, 32, 32),
        "c4": (512, 16, 16),
        "c5": (1024, 8, 8),
    }


def test_a_stem_of_stride_2_takes_the_place_of_the_first_stage() -> None:
    """Nothing else changes: what is left has the names and shapes that it has behind the paper's stem."""
    full, short = (
        {name: value.shape for name, value in scaled_darknet(0.125, 0.1, stem_stride=stride).state_dict().items()}
        for stride in (1, 2)
    )
    assert short["stem.conv.weight"] == (16, 3, 3, 3)  # the first stage's channels; the paper's stem has half as many
    assert full.keys() - short.keys() == {name for name in full if name.startswith("stages.0.")}
    assert all(full[name] == shape for name, shape in short.items() if name.startswith("stages."))


def test_darknet19_maps_by_table_6_of_the_paper() -> None:
    backbone = on_meta(Darknet19)
    assert convolutions(backbone) == 18  # and the classifier is the 19th
    assert shapes(backbone, 224, 448) == {
        "c2": (128, 56, 112),
        "c3": (256, 28, 56),
        "c4": (512, 14, 28),
        "c5": (1024, 7, 14),
    }


@pytest.mark.parametrize(
    "build",
    [partial(scaled_darknet, 0.125, 0.1), partial(scaled_darknet, 0.125, 0.1, stem_stride=2), Darknet19],
    ids=["darknet", "darknet with a stem of stride 2", "darknet19"],
)
def test_feature_info_says_what_comes_out(build: Callable[[], Darknet | Darknet19]) -> None:
    with torch.device("meta"):
        backbone = build()
        features = backbone(torch.rand(2, 3, 64, 96))
    assert list(features) == list(backbone.feature_info) == ["c2", "c3", "c4", "c5"]
    for name, info in backbone.feature_info.items():
        assert features[name].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        assert info.stride == 2 ** int(name[1])


@pytest.mark.slow
def test_a_backbone_may_end_early() -> None:
    with torch.device("meta"):
        whole, short, short19 = darknet53(), darknet53(top_level=4), Darknet19(top_level=4)
    assert list(short.feature_info) == list(short19.feature_info) == ["c2", "c3", "c4"]
    assert convolutions(short) == 52 - 9  # the last stage has one convolution and four blocks of two
    assert convolutions(short19) == 18 - 5
    assert short.state_dict().keys() < whole.state_dict().keys()
    assert list(shapes(short, 64, 64)) == ["c2", "c3", "c4"]


@pytest.mark.slow
def test_scaling_multiplies_channels_and_blocks() -> None:
    small = scaled_darknet(0.375, 0.34)
    # 64, 128, 256, 512, 1024 x .375; the first convolution has half of 24.
    assert [info.channels for info in small.feature_info.values()] == [48, 96, 192, 384]
    assert small.stem.conv.out_channels == 12
    # 1, 2, 8, 8, 4 x .34 = .34 (at least 1), .68, 2.72, 2.72, 1.36.
    assert [len(stage) - 1 for stage in small.stages if isinstance(stage, nn.Sequential)] == [1, 1, 3, 3, 1]
    with torch.device("meta"):
        assert scaled_darknet(1, 1).state_dict().keys() == darknet53().state_dict().keys()


def test_a_residual_block_adds_its_input_and_nothing_follows() -> None:
    block = ResidualBlock(8, 1e-5).eval()
    x = -torch.rand(1, 8, 4, 4)
    nn.init.zeros_(block.conv2.norm.weight)
    assert torch.equal(block(x), x), "negative values pass: there is no activation after the addition"
    nn.init.ones_(block.conv2.norm.weight)
    torch.testing.assert_close(block(x), x + block.conv2(block.conv1(x)))
    assert isinstance(block.conv1, ConvBNAct)
    assert block.conv1.conv.kernel_size == (1, 1)
    assert block.conv1.conv.out_channels == 4
    assert block.conv2.conv.kernel_size == (3, 3)


def test_a_classifier_gives_probabilities() -> None:
    classifier = DarknetClassifier(scaled_darknet(0.125, 0.1, stem_stride=2), num_classes=7).eval()
    images = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        probabilities = classifier(images)
    assert probabilities.shape == (3, 7)
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))
