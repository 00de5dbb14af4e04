from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.runtimes.small import random_images, small_detector
from yolofpn.runtimes.fold import CastConv2d, fold_norms
from yolofpn.runtimes.torch_backend import DensePart, TorchBackend, output_convolutions
from yolofpn.weights import load_weights

CPU = torch.device("cpu")


@torch.inference_mode()
def test_the_native_network_without_norms_computes_the_same() -> None:
    model, _ = small_detector()
    before = copy.deepcopy(model.state_dict())
    images = random_images()
    expected, folded = model.dense(images), fold_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for name, raw in folded.dense(images).items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-4)
    # The model itself is untouched, down to its parameters' gradients.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "MobileNetV2-YOLO-Fastest-voc-v2"])
def test_networks_of_a_darknet_cfg_compute_the_same(data_dir: Path, name: str) -> None:
    network = load_weights(next((data_dir / "darknet").glob(f"{name}*.weights"))).detector
    images = random_images(1, 64, 64)
    expected, folded = network.dense(images), fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for key, raw in folded.dense(images).items():
        scale = float(expected[key].abs().max())
        torch.testing.assert_close(raw / scale, expected[key] / scale, rtol=0, atol=1e-5)


def test_the_last_convolution_of_each_map_is_found() -> None:
    model, _ = small_detector()
    part = fold_norms(DensePart(model))
    head = part.get_submodule("detector.head")
    assert output_convolutions(part) == {head.get_submodule(f"{level}.predict") for level in ("p3", "p4", "p5")}


@pytest.mark.slow
def test_the_last_convolutions_are_found_on_any_device() -> None:
    """Where the numbers lie already: 'meta' refuses tensors of the CPU as a GPU does."""
    model, _ = small_detector()
    part = fold_norms(DensePart(model.to("meta")))
    assert len(output_convolutions(part)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_half_precision_maps_are_float32_and_close(dtype: torch.dtype, rounding: float) -> None:
    (model, _), images = small_detector(), random_images()
    full, half = TorchBackend(model, CPU).start(images)(), TorchBackend(model, CPU, dtype).start(images)()
    for name, raw in half.items():
        assert raw.dtype == torch.float32
        # Not all values are numbers of the short type: the last convolution is computed in full.
        assert not torch.equal(raw, raw.to(dtype).float())
        error, spread = (raw - full[name]).std(), full[name].std()
        assert 0 < error < 4 * rounding * spread


@pytest.mark.slow
def test_the_torch_backend_gives_the_maps_of_dense() -> None:
    (model, _), images = small_detector(), random_images()
    backend = TorchBackend(model, CPU)
    assert (backend.name, backend.precision, backend.slots) == ("torch", "fp32", 1)
    with torch.inference_mode():
        expected = model.dense(images)
    maps = backend.start(images)()
    assert list(maps) == list(expected)
    for name, raw in maps.items():
        torch.testing.assert_close(raw, expected[name], rtol=1e-4, atol=1e-4)
    assert TorchBackend(model, CPU, torch.bfloat16).precision == "bf16"
    assert not any(isinstance(module, CastConv2d) for module in model.modules())
