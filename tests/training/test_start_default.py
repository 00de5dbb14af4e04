"""The default weights, stored as float16, start a training on classes of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yolofpn import weights as weights_module
from yolofpn.config import Metadata, load_config
from yolofpn.data.class_names import VOC_NAMES
from yolofpn.models.build import build_yolo
from yolofpn.training.start import adapt_config, read_starting_weights, take_over
from yolofpn.weights import save_weights

pytestmark = pytest.mark.slow

SMALL = """
model:
  backbone: {type: darknet, width: 0.0625, depth: 0.1}
  neck: {type: concat, levels: [4, 5], channels: [8, 8]}
  head: {type: yolo, anchors: [[[16, 16], [24, 24]], [[32, 32], [48, 48]]]}
input: {size: [64, 64]}
"""
BOX_AND_OBJECTNESS = 5


def test_twenty_classes_become_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    config = load_config(tmp_path / "small.yaml")
    trained = build_yolo(config.model, len(VOC_NAMES), config.input, config.postprocess)
    path = tmp_path / "default.safetensors"
    metadata = Metadata(model=config.model, input=config.input, names=VOC_NAMES)
    save_weights(path, trained.state_dict(), metadata, torch.float16)
    monkeypatch.setattr(weights_module, "default_weights", lambda: path)

    start = read_starting_weights("auto", config.model)
    assert start.notes == (f"weights: {path} (the default weights; sha256 verified)",)
    assert adapt_config(config, start) == (config, [])
    model = build_yolo(config.model, 3, config.input, config.postprocess)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    line = take_over(model, ("RBC", "WBC", "Platelets"), (), start)

    tensors = [name for name in before if not name.endswith("num_batches_tracked")]
    assert line == (
        f"weights: {len(tensors) - 4} of {len(tensors)} tensors taken from the default weights, "
        "4 in part: all classes are new"
    )
    theirs = trained.state_dict()
    for name, tensor in model.state_dict().items():
        stored = theirs[name].half().float() if name in tensors else theirs[name]
        if ".predict." not in name:
            assert torch.equal(tensor, stored)
            continue
        own, fresh = tensor.unflatten(0, (2, -1)), before[name].unflatten(0, (2, -1))
        assert torch.equal(own[:, :BOX_AND_OBJECTNESS], stored.unflatten(0, (2, -1))[:, :BOX_AND_OBJECTNESS])
        assert torch.equal(own[:, BOX_AND_OBJECTNESS:], fresh[:, BOX_AND_OBJECTNESS:])
