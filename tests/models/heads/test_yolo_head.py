import torch
from torch import nn

from yolofpn.models.heads.yolo_head import YOLOHead
from yolofpn.structures import FeatureInfo

INFO = {"p3": FeatureInfo(8, 8), "p5": FeatureInfo(16, 32)}


def test_three_anchors_and_80_classes_are_255_channels() -> None:
    head = YOLOHead(INFO, 3, 80)
    maps = head({"p3": torch.rand(2, 8, 9, 12), "p5": torch.rand(2, 16, 3, 4)})
    assert {name: tuple(m.shape) for name, m in maps.items()} == {"p3": (2, 255, 9, 12), "p5": (2, 255, 3, 4)}


def test_the_wide_convolution_doubles_the_channels() -> None:
    state = YOLOHead(INFO, 3, 2).state_dict()
    assert state["p3.conv.conv.weight"].shape == (16, 8, 3, 3)
    assert state["p5.conv.conv.weight"].shape == (32, 16, 3, 3)
    assert state["p5.predict.weight"].shape == (21, 32, 1, 1)


def test_a_fresh_head_expects_one_object_in_a_hundred_cells() -> None:
    head = YOLOHead(INFO, 2, 4)
    predict = head.get_submodule("p3.predict")
    assert isinstance(predict, nn.Conv2d)
    assert predict.bias is not None
    bias = predict.bias.view(2, 9)
    assert (bias[:, :4] == 0).all()
    torch.testing.assert_close(bias[:, 4:].sigmoid(), torch.full((2, 5), 0.01))
    scores = head.eval()({"p3": torch.randn(1, 8, 6, 6)})["p3"].view(2, 9, 6, 6)[:, 4].sigmoid()
    assert 0.005 < scores.mean() < 0.02
