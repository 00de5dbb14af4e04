from __future__ import annotations

from pathlib import Path

import torch

from yolofpn.config import load_config
from yolofpn.models.build import build_yolo
from yolofpn.training.start import StartingWeights, take_over
from yolofpn.training.start_narrow import narrowed

CFG = Path(__file__).parents[2] / "cfg"


def test_kept_channels_are_those_that_weigh_most() -> None:
    layer, reader = "head.p4.conv", "head.p4.predict.weight"
    given = {
        f"{layer}.conv.weight": torch.arange(4.0).view(4, 1, 1, 1),
        f"{layer}.norm.weight": torch.tensor([1.0, -2.0, 0.1, 1.0]),
        f"{layer}.norm.bias": torch.arange(4.0),
        f"{layer}.norm.running_mean": torch.arange(4.0),
        f"{layer}.norm.running_var": torch.arange(4.0),
        reader: torch.tensor([[1.0, 1.0, 5.0, 0.5], [0.0, 1.0, 5.0, 0.5]]).view(2, 4, 1, 1),
    }
    # 1 x 1, 2 x sqrt(2), .1 x sqrt(50), 1 x sqrt(.5): the first two are kept.
    own = {f"{layer}.conv.weight": torch.zeros(2, 1, 1, 1), reader: torch.zeros(2, 2, 1, 1)}
    narrow = narrowed(given, own)
    assert narrow[f"{layer}.norm.weight"].tolist() == [1.0, -2.0]
    assert narrow[f"{layer}.conv.weight"].flatten().tolist() == [0.0, 1.0]
    assert narrow[reader].flatten(1).tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert narrowed(given, given) == given


def test_lite_takes_all_of_yolov3_tiny() -> None:
    wide, lite = (load_config(CFG / f"{name}.yaml") for name in ("yolov3-tiny", "yolofpn-lite"))
    names = tuple(map(str, range(80)))
    source = build_yolo(wide.model, 80, wide.input, wide.postprocess)
    model = build_yolo(lite.model, 80, lite.input, lite.postprocess)
    line = take_over(model, names, (), StartingWeights("tiny", source.state_dict(), {}, names=names))
    assert "fresh" not in line
    stem = "backbone.stages.0.0.conv.weight"
    assert torch.equal(model.state_dict()[stem], source.state_dict()[stem])
