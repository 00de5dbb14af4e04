"""First convolutions for images of other channels than three."""

import pytest
import torch
from torch import nn

from yolofpn.models.input_channels import inflate_kernel, set_input_channels


def test_a_gray_image_gives_what_three_equal_channels_gave() -> None:
    kernel, gray = torch.randn(4, 3, 3, 3), torch.rand(1, 1, 8, 8)
    expected = nn.functional.conv2d(gray.repeat(1, 3, 1, 1), kernel)
    torch.testing.assert_close(nn.functional.conv2d(gray, inflate_kernel(kernel, 1)), expected)


def test_equal_bands_give_what_three_equal_channels_gave_if_their_number_is_a_multiple() -> None:
    kernel, gray = torch.randn(4, 3, 3, 3), torch.rand(1, 1, 8, 8)
    expected = nn.functional.conv2d(gray.repeat(1, 3, 1, 1), kernel)
    torch.testing.assert_close(nn.functional.conv2d(gray.repeat(1, 6, 1, 1), inflate_kernel(kernel, 6)), expected)
    inflated = inflate_kernel(kernel, 5)
    torch.testing.assert_close(inflated[:, 3], kernel[:, 0] * 0.6)


def test_a_new_first_convolution_keeps_the_variance_of_responses() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 512, 3))
    before = float(layer(torch.randn(8, 3, 9, 9)).var())
    for channels in (1, 7):
        changed = nn.Sequential(nn.Conv2d(3, 512, 3, bias=False))
        set_input_channels(changed, channels)
        assert changed[0].in_channels == channels
        assert float(changed(torch.randn(8, channels, 9, 9)).var()) == pytest.approx(before, rel=0.15)


def test_backbones_that_see_no_colours_are_refused() -> None:
    with pytest.raises(ValueError, match="first convolution"):
        set_input_channels(nn.Sequential(nn.Conv2d(8, 8, 3)), 4)
