"""Two-stage detectors without batch norms, and their second stage in the backend's arithmetic."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.runtimes.small import random_images, small_detector
from yolofpn.config import InputConfig, Metadata, ModelConfig, PostprocessConfig
from yolofpn.inference.load_detector import load_detector
from yolofpn.models.build import build_model
from yolofpn.models.layers import FrozenBatchNorm2d
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.runtimes.fold import CastConv2d, CastLinear, fold_norms
from yolofpn.runtimes.parity import TOLERANCES, compare_backends
from yolofpn.runtimes.second_stage import prepare_postprocess
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.weights import save_weights

CPU = torch.device("cpu")
NORMS = nn.BatchNorm2d | FrozenBatchNorm2d
NAMES = ("cat", "dog", "bird")
INPUT = InputConfig(size=(64, 96), mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.2))
POSTPROCESS = PostprocessConfig(score_thresh=0.1, nms_thresh=0.5, detections_per_img=50)
CONV5: dict[str, object] = {
    "neck": {"type": "none", "levels": [4]},
    "sizes": [[16, 32]],
    "roi": {"type": "conv5", "size": 6},
}
MLP: dict[str, object] = {
    "neck": {"type": "concat", "levels": [3, 4, 5], "channels": [8, 8, 8]},
    "sizes": [[16], [32], [64]],
    "roi": {"width": 16},
}
RESNET: dict[str, object] = {"type": "resnet", "depth": 18, "norm": "frozen"}
DARKNET: dict[str, object] = {"type": "darknet", "width": 0.125, "depth": 0.1}


def make(backbone: dict[str, object], parts: dict[str, object]) -> tuple[FasterRCNN, Metadata]:
    """Its batch norms do something, and so do its predictions."""
    torch.manual_seed(0)
    head = {"type": "rcnn", "channels": 8, "anchors": {"sizes": parts["sizes"]}, "roi": parts["roi"]}
    rpn = {"post_nms_top_n": [20, 20]}
    model = ModelConfig.model_validate({"backbone": backbone, "neck": parts["neck"], "head": {**head, "rpn": rpn}})
    detector = build_model(model, len(NAMES), INPUT, POSTPROCESS).eval()
    assert isinstance(detector, FasterRCNN)
    for module in detector.modules():
        if isinstance(module, NORMS):
            assert module.running_mean is not None and module.running_var is not None
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.4, 0.8),
                (module.bias, -0.2, 0.2),
            ):
                nn.init.uniform_(tensor, low, high)
    for layer, std in ((detector.head.box.classes, 0.3), (detector.head.box.deltas, 0.2)):
        nn.init.normal_(layer.weight, std=std)
    return detector, Metadata(model=model, input=INPUT, postprocess=POSTPROCESS, names=NAMES)


def norms_in(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, NORMS)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "parts"),
    [(RESNET, CONV5), ({**RESNET, "norm": "live"}, MLP), (DARKNET, CONV5), (DARKNET, MLP)],
    ids=["frozen resnet, conv5", "live resnet, mlp", "darknet, conv5", "darknet, mlp"],
)
@torch.inference_mode()
def test_maps_and_detections_are_those_with_norms(backbone: dict[str, object], parts: dict[str, object]) -> None:
    detector, _ = make(backbone, parts)
    before, images, sizes = copy.deepcopy(detector.state_dict()), random_images(), [(64, 96)] * 2
    folded, second = fold_norms(detector), prepare_postprocess(detector, "fp32")
    assert isinstance(second, FasterRCNN)
    assert norms_in(detector) and not norms_in(folded) and not norms_in(second.head.box)
    expected, given = detector.dense(images), folded.dense(images)
    for name, raw in given.items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-4)
    for one, other in zip(detector.postprocess(expected, sizes), second.postprocess(expected, sizes), strict=True):
        assert len(one) == len(other) > 5 and np.array_equal(one.labels, other.labels)
        torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in detector.state_dict().items())


@pytest.mark.slow
def test_a_two_stage_file_runs_without_norms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the Python interface: norms that would be called fail the test."""
    detector, metadata = make(DARKNET, CONV5)
    image = random_images(1)
    with torch.inference_mode():
        (expected,) = detector.postprocess(detector.dense(image), [(64, 96)])
    save_weights(tmp_path / "two.safetensors", detector.state_dict(), metadata)

    def refuse(self: nn.Module, _x: Tensor) -> Tensor:
        raise AssertionError("batch norm was called")

    monkeypatch.setattr(nn.BatchNorm2d, "forward", refuse)
    predictor = load_detector(tmp_path / "two.safetensors", backend="torch", precision="fp32", device="cpu")
    found = predictor(image[0].permute(1, 2, 0).numpy(), rgb=True)
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-2)
    # What is saved from a predictor is the detector, not its folded copy.
    assert set(predictor.detector.state_dict()) == set(detector.state_dict())  # type: ignore[attr-defined]


@pytest.mark.parametrize("parts", [CONV5, MLP], ids=["conv5", "mlp"])
@torch.inference_mode()
def test_bf16_computes_the_second_stage_in_bf16(parts: dict[str, object]) -> None:
    detector, _ = make(DARKNET, parts)
    full, half = prepare_postprocess(detector, "fp32"), prepare_postprocess(detector, "bf16")
    assert isinstance(half, FasterRCNN) and isinstance(full, FasterRCNN)
    body = [module for module in half.head.box.body.modules() if isinstance(module, CastConv2d | CastLinear)]
    assert body and {module.weight.dtype for module in body} == {torch.bfloat16}
    assert half.head.box.classes.weight.dtype == half.head.box.deltas.weight.dtype == torch.float32
    # The same regions through both: scores are near, and float32.
    pooled = torch.rand(30, *((64, 6, 6) if parts is CONV5 else (8, 7, 7)))
    for one, other in zip(full.head.box(pooled), half.head.box(pooled), strict=True):
        assert one.dtype == other.dtype == torch.float32
        error = (one - other).std() / one.std()
        assert 0 < error < 0.05
    assert all(tensor.dtype == torch.float32 for tensor in detector.parameters())


def test_half_precision_of_processors_is_bf16_or_none() -> None:
    detector, _ = make(DARKNET, MLP)
    for precision in ("fp16", "fp32"):
        prepared = prepare_postprocess(detector, precision)
        assert isinstance(prepared, FasterRCNN)
        assert all(parameter.dtype == torch.float32 for parameter in prepared.head.box.parameters())


def test_one_stage_detectors_stay_as_they_are() -> None:
    detector, _ = small_detector()
    assert prepare_postprocess(detector, "bf16") is detector


@pytest.mark.slow
def test_a_comparison_of_backends_sees_the_second_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stage that goes wrong in bf16 alone fails the comparison, though the maps are right."""
    detector, _ = make(DARKNET, MLP)
    backends = TorchBackend(detector, CPU), TorchBackend(detector, CPU)
    backends[1].precision = "bf16"
    images = [random_images(1)]
    right = compare_backends(detector, *backends, images, TOLERANCES["bf16"])
    assert right.detections > 5 and right.partners > 0.9

    def wrong(self: CastLinear, x: Tensor) -> Tensor:
        return nn.functional.linear(-20 * x.to(self.weight.dtype), self.weight, self.bias)

    monkeypatch.setattr(CastLinear, "forward", wrong)
    assert compare_backends(detector, *backends, images, TOLERANCES["bf16"]).partners < 0.5
