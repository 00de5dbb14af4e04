from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.darknet.darknet_layers import MaxPool, Reorg, Route, ScaleChannels, Shortcut, build_activation
from yolofpn.darknet.sections import Activation


def numbered(*shape: int) -> Tensor:
    """A map whose every number is different, negative ones too."""
    count = int(np.prod(shape))
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).view(shape).float() - count // 2


def maxpool_by_hand(x: NDArray[np.float32], size: int, stride: int, padding: int) -> NDArray[np.float32]:
    """Window by window: the first window begins padding // 2 before the image, pixels outside count as nothing."""
    height, width = x.shape
    rows, columns = ((length + padding - size) // stride + 1 for length in (height, width))
    out = np.full((rows, columns), -np.inf, dtype=np.float32)
    for row, column, dy, dx in product(range(rows), range(columns), range(size), range(size)):
        y, x_ = row * stride - padding // 2 + dy, column * stride - padding // 2 + dx
        if 0 <= y < height and 0 <= x_ < width:
            out[row, column] = max(out[row, column], x[y, x_])
    return out


@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (5, 13)])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(2, 1, 1), (2, 2, 1), (2, 2, 0), (3, 2, 2), (3, 3, 1), (4, 1, 3), (4, 2, 3), (5, 1, 4), (13, 1, 12)],
)
def test_maxpool_pads_as_darknet(shape: tuple[int, int], size: int, stride: int, padding: int) -> None:
    x = numbered(2, 3, *shape)
    out = MaxPool(size, stride, padding)(x)
    for image, channel in product(range(2), range(3)):
        expected = maxpool_by_hand(x[image, channel].numpy(), size, stride, padding)
        np.testing.assert_array_equal(out[image, channel].numpy(), expected)


def test_maxpool_of_size_2_and_stride_1_keeps_the_size() -> None:
    x = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])
    assert MaxPool(2, 1, 1)(x).tolist() == [[[[4, 3], [4, 3]]]]
    assert MaxPool(2, 1, 1)(-x).tolist() == [[[[-1, -2], [-3, -3]]]]


def reorg_by_hand(x: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Number by number over flat memory, [C, H, W] seen as [C / s^2, H * s, W * s]."""
    channels, height, width = x.shape
    narrow = channels // stride**2
    flat = x.ravel()
    out = np.empty_like(flat)
    for k, j, i in product(range(channels), range(height), range(width)):
        offset, channel = divmod(k, narrow)
        down, across = j * stride + offset // stride, i * stride + offset % stride
        out[i + width * (j + height * k)] = flat[across + width * stride * (down + height * stride * channel)]
    return out.reshape(channels * stride**2, height // stride, width // stride)


@pytest.mark.parametrize(("shape", "stride"), [((4, 2, 2), 2), ((8, 4, 6), 2), ((64, 2, 2), 2), ((9, 3, 6), 3)])
def test_reorg_has_darknets_order(shape: tuple[int, int, int], stride: int) -> None:
    x = numbered(2, *shape)
    out = Reorg(stride)(x)
    for image in range(2):
        np.testing.assert_array_equal(out[image].numpy(), reorg_by_hand(x[image].numpy(), stride))


def test_reorg_of_four_channels_by_hand() -> None:
    # 16 numbers seen as one 4 x 4 map: the corners of its 2 x 2 blocks come first.
    out = Reorg(2)(torch.arange(16.0).view(1, 4, 2, 2))
    assert out.shape == (1, 16, 1, 1)
    assert out.flatten().tolist() == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]


def test_route_concatenates_and_takes_its_part_of_each_map() -> None:
    a, b = numbered(2, 4, 3, 3), numbered(2, 2, 3, 3)
    np.testing.assert_array_equal(Route(1, 0)(a, b).numpy(), np.concatenate([a.numpy(), b.numpy()], axis=1))
    np.testing.assert_array_equal(Route(1, 0)(a).numpy(), a.numpy())
    expected = np.concatenate([a.numpy()[:, 2:], b.numpy()[:, 1:]], axis=1)
    np.testing.assert_array_equal(Route(2, 1)(a, b).numpy(), expected)
    np.testing.assert_array_equal(Route(2, 0)(a).numpy(), a.numpy()[:, :2])


def test_scale_channels_multiplies_each_channel() -> None:
    x, scale = numbered(2, 3, 2, 2), numbered(2, 3, 1, 1)
    expected = np.stack([[x[b, c].numpy() * scale[b, c].item() for c in range(3)] for b in range(2)])
    np.testing.assert_array_equal(ScaleChannels("linear")(x, scale).numpy(), expected)
    np.testing.assert_array_equal(ScaleChannels("relu")(x, scale).numpy(), np.maximum(expected, 0))


@pytest.mark.parametrize(("channels", "other_channels"), [(3, 3), (3, 2), (2, 3)])
@pytest.mark.parametrize("step", [1, 2])
def test_shortcut_adds_what_both_have(channels: int, other_channels: int, step: int) -> None:
    x, other = numbered(2, channels, 3, 4), numbered(2, other_channels, 3 * step, 4 * step)
    expected = x.numpy().copy()
    for b, c, i, j in product(range(2), range(min(channels, other_channels)), range(3), range(4)):
        expected[b, c, i, j] += other[b, c, i * step, j * step]
    np.testing.assert_array_equal(Shortcut("linear")(x, other).numpy(), expected)
    leaky = np.where(expected > 0, expected, expected * np.float32(0.1))
    np.testing.assert_array_equal(Shortcut("leaky")(x, other).numpy(), leaky)


def test_shortcut_adds_several_maps_and_leaves_them_alone() -> None:
    a, b, c = numbered(1, 2, 2, 2), numbered(1, 2, 2, 2) * 10, numbered(1, 2, 2, 2) * 100
    before = [x.clone() for x in (a, b, c)]
    assert torch.equal(Shortcut("relu")(a, b, c), F.relu(a * 111))
    assert all(torch.equal(x, y) for x, y in zip((a, b, c), before, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [-8.0, -1.0, 0.0, 1.0, 8.0]),
        ("leaky", [-0.8, -0.1, 0.0, 1.0, 8.0]),
        ("relu", [0.0, 0.0, 0.0, 1.0, 8.0]),
        ("relu6", [0.0, 0.0, 0.0, 1.0, 6.0]),
        ("logistic", [1 / (1 + np.exp(8.0)), 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1 / (1 + np.exp(-8.0))]),
        ("swish", [-8 / (1 + np.exp(8.0)), -1 / (1 + np.e), 0.0, np.e / (1 + np.e), 8 / (1 + np.exp(-8.0))]),
        ("mish", [x * np.tanh(np.log1p(np.exp(x))) for x in (-8.0, -1.0, 0.0, 1.0, 8.0)]),
    ],
)
def test_activations(name: Activation, expected: list[float]) -> None:
    x = torch.tensor([-8.0, -1.0, 0.0, 1.0, 8.0])
    np.testing.assert_allclose(build_activation(name)(x.clone()).numpy(), expected, rtol=1e-6)
