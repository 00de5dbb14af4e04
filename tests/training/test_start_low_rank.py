from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.data.small_dataset import write_dataset
from yolofpn.config import Config
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.sampler import SampleKey
from yolofpn.data.samples import EvaluationSamples
from yolofpn.models.build import build_yolo
from yolofpn.models.layers import ConvBNAct, LowRankConvBNAct
from yolofpn.models.yolo import YOLO
from yolofpn.training.start import StartingWeights, take_over
from yolofpn.training.start_low_rank import merge_kernels, split, split_kernels
from yolofpn.yaml_text import parse_yaml

CFG = """
model:
  backbone: {type: darknet, width: 0.0625, depth: 0.1}
  neck: {type: tiny, levels: [4, 5], channels: 16}
  head: {type: yolo, channels: [32, 64], anchors: [[[16, 16]], [[32, 32]]]}
input: {size: [64, 64]}
"""
NAMES = ("bright", "dark")
SIZE = (64, 64)


def with_ranks(backbone: float | None, head: tuple[int | None, int | None]) -> YOLO:
    config = Config.model_validate(parse_yaml(CFG))
    model = config.model
    parts = {
        "backbone": model.backbone.model_copy(update={"rank": backbone}),
        "head": model.head.model_copy(update={"ranks": head}),
    }
    torch.manual_seed(0)
    return build_yolo(model.model_copy(update=parts), len(NAMES), config.input, config.postprocess)


@pytest.fixture(scope="module")
def whole() -> YOLO:
    """A network whose batch norms have seen images, as a trained one's have."""
    network = with_ranks(None, (None, None)).train()
    with torch.no_grad():
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            network.dense(torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8, generator=generator))
    return network.eval()


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Six images, the fourth of which is damaged."""
    found = write_dataset(tmp_path)
    Path(found.paths[3]).write_bytes(b"no image")
    return found


@pytest.mark.slow
def test_full_ranks_compute_what_whole_kernels_do(whole: YOLO, dataset: DetectionDataset) -> None:
    model = with_ranks(None, (32, 64)).eval()
    start, lines = split_kernels(
        StartingWeights("w", whole.state_dict(), {}, names=NAMES), model, dataset, SIZE, "letterbox"
    )
    assert len(lines) == 1
    assert "fresh" not in take_over(model, NAMES, (), start)
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = whole.dense(images), model.dense(images)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_merged_kernels_compute_what_low_rank_ones_do(whole: YOLO) -> None:
    model = with_ranks(0.5, (16, None)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("basis.bias"):
                parameter.uniform_(-1, 1)
    start = StartingWeights("w", model.state_dict(), {}, names=NAMES)
    assert merge_kernels(start, model).state.keys() == model.state_dict().keys()
    merged = merge_kernels(start, whole)
    network = with_ranks(None, (None, None)).eval()
    network.load_state_dict(dict(merged.state))
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = model.dense(images), network.dense(images)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4)


def test_principal_components_by_hand() -> None:
    """Answers (a, a, b) of variances 4 and 1: the first component is (1, 1, 0) / sqrt(2), with 8 of 9."""
    layer = LowRankConvBNAct(2, 3, 1, rank=1)
    whole = ConvBNAct(2, 3, 1, norm_eps=0.0)
    with torch.no_grad():
        whole.conv.weight.copy_(torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]).view(3, 2, 1, 1))
        whole.norm.bias.copy_(torch.tensor([0.0, 0.0, 5.0]))
    covariance = torch.tensor([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    tensors, share = split(whole.eval(), layer, (torch.tensor([1.0, 1.0, 7.0], dtype=torch.float64), covariance))
    assert share == pytest.approx(8 / 9)
    layer.load_state_dict(tensors, strict=False)
    x = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    with torch.no_grad():
        answer = layer.eval()(x).flatten()
    # y = (6, 6, 1): kept along (1, 1, 0), and the mean 7 in the third place.
    torch.testing.assert_close(answer, torch.tensor([6.0, 6.0, 7.0]))


@pytest.mark.slow
def test_images_decide_what_is_kept(whole: YOLO, dataset: DetectionDataset) -> None:
    """Half of the ranks keep nearly all of the answers to the training images, and more than the kernels' own order."""
    batch, start = dataset_batch(dataset), StartingWeights("w", whole.state_dict(), {}, names=NAMES)
    errors = []
    for _ in range(2):  # the second time there is no image to be read, so the kernels alone decide
        model = with_ranks(None, (16, 32)).eval()
        take_over(model, NAMES, (), split_kernels(start, model, dataset, SIZE, "letterbox")[0])
        with torch.no_grad():
            expected, found = (network.dense(batch) for network in (whole, model))
        errors.append({name: float((found[name] - tensor).std() / tensor.std()) for name, tensor in expected.items()})
        for path in map(Path, dataset.paths):
            path.write_bytes(b"no image")
    assert all(errors[0][name] < min(0.01, errors[1][name]) for name in errors[0]), errors


def test_weights_that_are_split_already_stay(whole: YOLO, dataset: DetectionDataset) -> None:
    model = with_ranks(0.5, (16, None))
    start = StartingWeights("w", model.state_dict(), {}, names=NAMES)
    assert split_kernels(start, model, dataset, SIZE, "letterbox") == (start, [])


def test_a_rank_above_the_channels_is_not_split(whole: YOLO, dataset: DetectionDataset) -> None:
    model = with_ranks(None, (33, None))  # of 32 channels
    start = StartingWeights("w", whole.state_dict(), {}, names=NAMES)
    assert split_kernels(start, model, dataset, SIZE, "letterbox") == (start, [])


@pytest.mark.slow
def test_without_a_readable_image_the_kernels_decide(whole: YOLO, dataset: DetectionDataset) -> None:
    for path in map(Path, dataset.paths):
        path.write_bytes(b"no image")
    model = with_ranks(None, (32, None))
    start, _ = split_kernels(
        StartingWeights("w", whole.state_dict(), {}, names=NAMES), model, dataset, SIZE, "letterbox"
    )
    assert all(tensor.isfinite().all() for tensor in start.state.values())


def dataset_batch(dataset: DetectionDataset) -> Tensor:
    samples = EvaluationSamples(dataset, "letterbox")
    return torch.stack([samples[SampleKey(index, 0, SIZE)].image for index in (0, 1, 2, 4)])
