import numpy as np
import pytest
import torch

from yolofpn.models.layers import ConvBNAct, Normalize, upsample_to


def test_normalize_by_hand() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    # (0 - .5) / .25 = -2, (.2 - .1) / .5 = .2, (1 - .4) / .2 = 3.
    out = Normalize((0.5, 0.1, 0.4), (0.25, 0.5, 0.2))(images)
    assert out.flatten().tolist() == pytest.approx([-2, 0.2, 3])
    assert out.dtype == torch.float32


def test_bytes_and_floats_of_the_same_range_are_the_same() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    normalize = Normalize((0, 0, 0), (1, 1, 1))
    assert torch.equal(normalize(images), normalize(images.float()))
    assert normalize(images).max() == 1


def test_constants_of_normalize_are_no_weights() -> None:
    assert list(Normalize((0, 0, 0), (1, 1, 1)).state_dict()) == []


@pytest.mark.parametrize(("stride", "expected"), [(1, (9, 14)), (2, (5, 7))])
def test_a_stride_of_two_halves_and_rounds_up(stride: int, expected: tuple[int, int]) -> None:
    for kernel_size in (1, 3):
        out = ConvBNAct(3, 8, kernel_size, stride)(torch.rand(2, 3, 9, 14))
        assert out.shape == (2, 8, *expected)


def test_conv_bn_act_by_hand() -> None:
    """A 1x1 kernel of 2, mean 3, variance 4 - eps, scale 5, bias 1: (2x - 3) / 2 * 5 + 1, below zero a tenth of it."""
    layer = ConvBNAct(1, 1, 1, norm_eps=0.5).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(2)
        layer.norm.weight.fill_(5)
        layer.norm.bias.fill_(1)
        assert layer.norm.running_mean is not None
        assert layer.norm.running_var is not None
        layer.norm.running_mean.fill_(3)
        layer.norm.running_var.fill_(3.5)
        out = layer(torch.tensor([2.0, 0.5]).view(1, 1, 1, 2))
    assert out.flatten().tolist() == pytest.approx([3.5, -0.4])  # (4 - 3) / 2 * 5 + 1; ((1 - 3) / 2 * 5 + 1) / 10
    assert layer.conv.bias is None
    assert layer.norm.momentum == 0.1


def test_nearest_doubles_every_pixel() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    out = upsample_to(x, torch.zeros(1, 9, 4, 6), "nearest")
    np.testing.assert_array_equal(out[0, 0], np.kron(x[0, 0].numpy(), np.ones((2, 2))))


def test_bilinear_interpolates_between_pixel_centres() -> None:
    out = upsample_to(torch.tensor([0.0, 4.0]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 4), "bilinear")
    assert out.flatten().tolist() == [0, 1, 3, 4]  # at -.25 (clamped), .25, .75 and 1.25 of the way


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_the_size_of_the_reference_is_met_also_where_it_is_odd(mode: str) -> None:
    assert upsample_to(torch.rand(1, 2, 43, 22), torch.zeros(1, 7, 84, 43), mode).shape == (1, 2, 84, 43)
