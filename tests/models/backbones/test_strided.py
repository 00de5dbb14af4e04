import torch
from torch import nn

from yolofpn.models.backbones.strided import StridedBackbone
from yolofpn.models.layers import ConvBNAct


def test_five_convolutions_of_stride_2() -> None:
    backbone = StridedBackbone(8)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 8), (8, 16), (16, 32), (32, 64), (64, 128)]
    assert {(c.kernel_size, c.stride) for c in convolutions} == {((3, 3), (2, 2))}
    assert all(isinstance(block, ConvBNAct) for block in backbone.blocks)


def test_feature_info_says_what_comes_out_at_odd_sizes_too() -> None:
    backbone = StridedBackbone(4, norm_eps=1e-3)
    maps = backbone(torch.rand(2, 3, 70, 97))
    assert list(maps) == list(backbone.feature_info) == ["c2", "c3", "c4", "c5"]
    for name, info in backbone.feature_info.items():
        assert maps[name].shape == (2, info.channels, -(-70 // info.stride), -(-97 // info.stride))
        assert info.stride == 2 ** int(name[1])
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_each_map_is_the_block_of_the_one_before() -> None:
    backbone = StridedBackbone(4).eval()
    x = torch.rand(1, 3, 64, 64)
    maps = backbone(x)
    for index, name in enumerate(("c2", "c3", "c4", "c5"), start=1):
        below = backbone.blocks[0](x) if index == 1 else maps[f"c{index}"]
        assert torch.equal(maps[name], backbone.blocks[index](below))


def test_it_may_end_early() -> None:
    assert list(StridedBackbone(4, top_level=3)(torch.rand(1, 3, 32, 32))) == ["c2", "c3"]
