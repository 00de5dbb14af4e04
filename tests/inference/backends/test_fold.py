from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from yolofpn.config import load_config
from yolofpn.inference.backends.fold import CastConv2d, fold_norms
from yolofpn.inference.backends.torch_backend import DensePart, TorchBackend, output_convolutions
from yolofpn.models.build import build_model
from yolofpn.models.yolo import YOLO
from yolofpn.weights import load_weights

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[3] / "cfg"


def tiny() -> YOLO:
    """A small one-stage detector whose batch norms have numbers of their own."""
    torch.manual_seed(0)
    config = load_config(CONFIGS / "yolofpn-tiny.yaml")
    model = build_model(config.model, 3, config.input, config.postprocess).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    assert isinstance(model, YOLO)
    return model


def pictures(batch: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@torch.inference_mode()
def test_the_native_network_without_norms_computes_the_same() -> None:
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    images = pictures()
    expected, folded = model.dense(images), fold_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for name, raw in folded.dense(images).items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-5)
    # The model itself is untouched, down to its parameters' gradients.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "MobileNetV2-YOLO-Fastest-voc-v2"])
def test_networks_of_a_darknet_cfg_compute_the_same(data_dir: Path, name: str) -> None:
    network = load_weights(next((data_dir / "darknet").glob(f"{name}*.weights"))).detector
    images = pictures(1, 64, 64)
    expected, folded = network.dense(images), fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for key, raw in folded.dense(images).items():
        scale = float(expected[key].abs().max())
        torch.testing.assert_close(raw / scale, expected[key] / scale, rtol=0, atol=1e-5)


def test_the_last_convolution_of_each_map_is_found() -> None:
    model = tiny()
    part = fold_norms(DensePart(model))
    head = part.get_submodule("detector.head")
    assert output_convolutions(part) == {head.get_submodule(f"{level}.predict") for level in ("p3", "p4", "p5")}


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_half_precision_maps_are_float32_and_close(dtype: torch.dtype, rounding: float) -> None:
    model, images = tiny(), pictures()
    full, half = TorchBackend(model, CPU).start(images)(), TorchBackend(model, CPU, dtype).start(images)()
    for name, raw in half.items():
        assert raw.dtype == torch.float32
        # Not all values are numbers of the short type: the last convolution is computed in full.
        assert not torch.equal(raw, raw.to(dtype).float())
        error, spread = (raw - full[name]).std(), full[name].std()
        assert 0 < error < 4 * rounding * spread


def test_the_torch_backend_gives_the_maps_of_dense() -> None:
    model, images = tiny(), pictures()
    backend = TorchBackend(model, CPU)
    assert (backend.name, backend.precision, backend.slots) == ("torch", "fp32", 1)
    with torch.inference_mode():
        expected = model.dense(images)
    maps = backend.start(images)()
    assert list(maps) == list(expected)
    for name, raw in maps.items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-5)
    assert TorchBackend(model, CPU, torch.bfloat16).precision == "bf16"
    assert not any(isinstance(module, CastConv2d) for module in model.modules())
