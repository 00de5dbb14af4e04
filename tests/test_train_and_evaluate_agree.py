"""Training's own evaluation and evaluate.py give the same numbers for the same weights and images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.data.trees import coco_json, write, write_image
from yolofpn.cli.evaluate import main
from yolofpn.config import Config, InputConfig, Metadata, ModelConfig
from yolofpn.data.layouts import open_data
from yolofpn.data.loader import Padding
from yolofpn.models.yolo import YOLO
from yolofpn.training.distributed import Ranks
from yolofpn.training.validation import Validation
from yolofpn.weights import build_detector, save_weights

pytestmark = pytest.mark.slow

MODEL = ModelConfig.model_validate(
    {
        "backbone": {"type": "darknet", "width": 0.0625, "depth": 0.1},
        "neck": {"type": "concat"},
        "head": {"type": "yolo", "anchors": [[[10, 13]], [[30, 20]], [[50, 40]]]},
    }
)


def write_data(folder: Path) -> Path:
    names = [f"{number}.png" for number in range(5)]
    for number, name in enumerate(names):
        write_image(folder / "images" / name, seed=number)
    boxes = [(image, 1 + image % 2, [4 * image, 3 * image, 30, 20]) for image in range(1, 6)]
    write(folder / "val.json", coco_json(names, [*boxes, (2, 2, [0, 0, 50, 40])]))
    return write(folder / "data.yaml", "format: coco\nsplits:\n  val: {images: images, annotations: val.json}\n")


def test_train_and_evaluate_agree(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    dataset = open_data(data).load("val")
    config = Config(model=MODEL, input=InputConfig(size=(64, 96)))
    metadata = Metadata(model=MODEL, input=config.input, names=dataset.names, category_ids=dataset.category_ids)
    model = build_detector(metadata, "fresh")
    assert isinstance(model, YOLO)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("bias"):
            tensor.zero_()  # a fresh model's makes it find nothing
    save_weights(tmp_path / "weights.safetensors", model.state_dict(), metadata)
    validation = Validation(config, dataset, torch.device("cpu"), torch.float32, Ranks(), 0, Padding())
    in_training = validation(model.train()).to_json()

    options = ["--batch-size", "2", "--workers", "0", "--output", str(tmp_path / "out")]
    arguments = ["--data", str(data), "--weights", str(tmp_path / "weights.safetensors"), "--device", "cpu", *options]
    assert main([*arguments, "--json", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["AR100"] > 0
    for key in in_training.keys() - {"seconds", "per_class"}:
        assert numbers[key] == pytest.approx(in_training[key], abs=1e-6), key
    for ours, theirs in zip(numbers["per_class"], in_training["per_class"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
