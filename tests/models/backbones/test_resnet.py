"""ResNets by the paper's table, under torchvision's names."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolofpn.models.backbones.resnet import NormKind, ResNet, ResNetDepth, resnet_stage
from yolofpn.models.layers import FrozenBatchNorm2d

# Parameters with the 1000-way classifier that torchvision publishes beside each of its files.
PUBLISHED: dict[ResNetDepth, int] = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

depths = pytest.mark.parametrize("depth", PUBLISHED)
norms = pytest.mark.parametrize("norm", ["live", "frozen"])


@functools.cache
def on_meta(depth: ResNetDepth, norm: NormKind = "live") -> ResNet:
    with torch.device("meta"):
        return ResNet(depth, norm)


def published_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's files but for the classifier, written down from table 1 of the paper."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv_and_norm(conv: str, norm: str, out: int, into: int, size: int) -> None:
        shapes[f"{conv}.weight"] = (out, into, size, size)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{kind}"] = (out,)
        shapes[f"{norm}.num_batches_tracked"] = ()

    conv_and_norm("conv1", "bn1", 64, 3, 7)
    into = 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS[depth], (64, 128, 256, 512), strict=True), start=1):
        plan = [(width, 3), (width, 3)] if depth < 50 else [(width, 1), (width, 3), (4 * width, 1)]
        out = plan[-1][0]
        for block in range(blocks):
            place, start = f"layer{stage}.{block}", into
            for index, (filters, size) in enumerate(plan, start=1):
                conv_and_norm(f"{place}.conv{index}", f"{place}.bn{index}", filters, into, size)
                into = filters
            if start != out:  # the first block of a stage
                conv_and_norm(f"{place}.downsample.0", f"{place}.downsample.1", out, start, 1)
    return shapes


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.ndim == 1:
            values = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(values + 0.5 if name.endswith(("weight", "var")) else values - 0.5)
    return module


@pytest.mark.slow
@depths
def test_as_many_parameters_as_published(depth: ResNetDepth) -> None:
    backbone = on_meta(depth)
    channels = backbone.feature_info["c5"].channels
    assert channels == (512 if depth < 50 else 2048)
    assert sum(p.numel() for p in backbone.parameters()) + 1000 * channels + 1000 == PUBLISHED[depth]


@pytest.mark.slow
@depths
def test_names_and_shapes_are_torchvisions(depth: ResNetDepth) -> None:
    live = {name: tuple(tensor.shape) for name, tensor in on_meta(depth).state_dict().items()}
    frozen = {name: tuple(tensor.shape) for name, tensor in on_meta(depth, "frozen").state_dict().items()}
    published = published_shapes(depth)
    assert live == published
    assert frozen == {name: shape for name, shape in published.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.slow
@pytest.mark.parametrize("depth", [34, 101])
def test_maps_by_table_1_of_the_paper(depth: ResNetDepth) -> None:
    maps = on_meta(depth).eval()(torch.zeros(1, 3, 224, 320, device="meta"))
    factor = 1 if depth < 50 else 4
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == {
        "c2": (64 * factor, 56, 80),
        "c3": (128 * factor, 28, 40),
        "c4": (256 * factor, 14, 20),
        "c5": (512 * factor, 7, 10),
    }


def forward_by_the_paper(state: dict[str, Tensor], depth: int, x: Tensor, eps: float) -> list[Tensor]:
    """Figure 5 and table 1 in plain functions on torchvision's names; a bottleneck strides on its 3x3."""

    def conv_bn(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{norm}.{kind}"].view(-1, 1, 1) for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + eps).sqrt() * scale + shift

    x = F.max_pool2d(conv_bn(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    maps = []
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(blocks):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            strides = (stride, 1) if depth < 50 else (1, stride, 1)
            out = x
            for index, own in enumerate(strides, start=1):
                out = conv_bn(out, f"{place}.conv{index}", f"{place}.bn{index}", own)
                out = out.relu() if index < len(strides) else out
            if f"{place}.downsample.0.weight" in state:
                x = conv_bn(x, f"{place}.downsample.0", f"{place}.downsample.1", stride)
            x = (x + out).relu()
        maps.append(x)
    return maps


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "norm"), [(18, "frozen"), (50, "live")])
def test_the_forward_pass_by_the_papers_figures(depth: ResNetDepth, norm: NormKind) -> None:
    """At an odd size too, where each halving rounds up; conv5 alone, as the second stage uses it, does the same."""
    torch.manual_seed(0)
    backbone = randomised(ResNet(depth, norm, norm_eps=1e-3)).double().eval()
    images = torch.randn(1, 3, 75, 45, dtype=torch.float64)
    with torch.no_grad():
        maps = backbone(images)
        expected = forward_by_the_paper(backbone.state_dict(), depth, images, 1e-3)
    assert [tuple(x.shape[2:]) for x in maps.values()] == [(19, 12), (10, 6), (5, 3), (3, 2)]
    for found, wanted in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    with torch.device("meta"):
        conv5 = resnet_stage(depth, 5, norm, 1e-3).eval()
    conv5.load_state_dict(backbone.get_submodule("layer4").state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(conv5(maps["c4"]), maps["c5"])


def test_frozen_batch_norm_by_hand_and_never_changes() -> None:
    norm = FrozenBatchNorm2d(2, eps=0.0)
    norm.load_state_dict(
        {
            "weight": torch.tensor([2.0, 1.0]),
            "bias": torch.tensor([1.0, 0.0]),
            "running_mean": torch.tensor([3.0, -1.0]),
            "running_var": torch.tensor([4.0, 0.25]),
        }
    )
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    x = torch.tensor([5.0, 1.0]).view(1, 2, 1, 1).requires_grad_()
    out = norm.train()(x)
    assert out.flatten().tolist() == [2 * (5 - 3) / 2 + 1, (1 + 1) / 0.5]
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.flatten().tolist() == [1, 2]
    assert not list(norm.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())
    half = norm(torch.ones(1, 2, 3, 3, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16 and half[0, 0].unique().item() == -1


@pytest.mark.slow
def test_live_batch_norm_learns() -> None:
    backbone = ResNet(50, top_level=3)
    before = backbone.state_dict()["bn1.running_mean"].clone()
    maps = backbone.train()(torch.randn(2, 3, 64, 64) + 1)
    assert not torch.equal(backbone.state_dict()["bn1.running_mean"], before)
    gradients = torch.autograd.grad(maps["c3"].square().sum(), list(backbone.parameters()))
    assert all(gradient.any() for gradient in gradients)


@pytest.mark.slow
@norms
def test_channels_last_and_bfloat16(norm: NormKind) -> None:
    backbone = randomised(ResNet(18, norm, top_level=3)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = backbone(images)
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = backbone(images.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(images)
    for name, wanted in plain.items():
        torch.testing.assert_close(last[name], wanted, rtol=1e-4, atol=1e-4)
        assert (half[name] - wanted).abs().mean() < 0.05 * wanted.abs().mean()


@pytest.mark.slow
def test_a_resnet_may_end_early() -> None:
    with torch.device("meta"):
        whole, short = on_meta(50), ResNet(50, top_level=4)
    assert list(short.feature_info) == ["c2", "c3", "c4"]
    left_out = whole.state_dict().keys() - short.state_dict().keys()
    assert left_out == {name for name in whole.state_dict() if name.startswith("layer4.")}


def test_epsilon_reaches_every_norm() -> None:
    for norm, kind in (("live", nn.BatchNorm2d), ("frozen", FrozenBatchNorm2d)):
        with torch.device("meta"):
            modules = [m for m in ResNet(18, norm, 0.0).modules() if isinstance(m, kind)]  # type: ignore[arg-type]
        assert {m.eps for m in modules} == {0.0} and len(modules) == 20
