"""A detector on EfficientNet-Lite as a graph of any batch size, written by the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.small import small_config
from tests.runtimes.small import NAMES, random_images
from yolofpn.cli.export import main
from yolofpn.config import InputConfig, Metadata, PostprocessConfig
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor_options import PredictorOptions
from yolofpn.models.backbones import efficientnet_lite
from yolofpn.models.build import build_yolo
from yolofpn.weights import load_weights, save_weights

SIZE = (64, 96)


@pytest.fixture(scope="module")
def few_blocks() -> Iterator[None]:
    """No block twice but one, which still has each kernel size and stride."""
    rows = [row._replace(blocks=1) for row in efficientnet_lite._ROWS]
    rows[2] = rows[2]._replace(blocks=2)  # the second one adds its input
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite, "_ROWS", tuple(rows))
        yield


@pytest.fixture(scope="module")
def weights(few_blocks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short Lite0 whose batch norms do something, and a head that finds objects."""
    torch.manual_seed(0)
    model = small_config({"levels": (4, 5), "channels": (8, 8)}, backbone={"type": "efficientnet_lite", "variant": 0})
    input = InputConfig(size=SIZE)
    detector = build_yolo(model, len(NAMES), input, PostprocessConfig()).train()
    with torch.no_grad():
        for seed in range(8):  # running statistics of real maps, so that numbers stay of order one
            detector.dense(random_images(4, *SIZE, seed=seed))
        for module in detector.head.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.1)
                module.bias.view(-1, 5 + len(NAMES))[:, 4:] = 1.0  # objectness and classes
    path = tmp_path_factory.mktemp("lite") / "lite.safetensors"
    save_weights(path, detector.state_dict(), Metadata(model=model, input=input, names=NAMES))
    return path


@pytest.mark.slow
@torch.inference_mode()
def test_one_graph_gives_the_native_results_for_one_and_for_three_images(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "lite.onnx"
    assert main(["--weights", str(weights), "--format", "onnx", "--batch", "dynamic", str(path)]) == 0
    native = load_weights(weights).detector
    for kind, batch in (("onnx", 1), ("onnx", 3), ("openvino", 3)):
        graph = load_for_inference(path, options=PredictorOptions(backend=kind)).detector
        images = random_images(batch, *SIZE, seed=batch)
        expected, found = native.dense(images), graph.dense(images)
        assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in expected.items()}
        for name, raw in found.items():
            torch.testing.assert_close(torch.as_tensor(raw), expected[name], rtol=1e-4, atol=1e-4)
        for one, other in zip(graph.postprocess(found, [SIZE] * batch), native(images), strict=True):
            assert len(one) > 0 and one.labels.tolist() == other.labels.tolist()
            torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.1)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)
