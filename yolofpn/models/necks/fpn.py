"""The feature pyramid: backbone maps c<k> in, pyramid maps p<k> of the same stride out.

Both fusions share the top-down pathway and its settings. ``levels`` are the output levels; the top-down pathway always
starts at c5, so ``levels=(2,)`` is the finest map of a whole pyramid. Modules are keyed by level: the state dict
of a three-level neck is part of that of a four-level one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, cat, nn

from yolofpn.levels import built_levels
from yolofpn.models.layers import ConvBNAct, conv_bn_act, rank_of, upsample_to
from yolofpn.structures import FeatureInfo


def five_convs(in_channels: int, out_channels: int, norm_eps: float, rank: float | None = None) -> nn.Sequential:
    """YOLOv3's block of alternating 1x1 and 3x3 convolutions: in_channels -> out_channels; ``rank`` as in ConcatFPN."""
    wide, low = 2 * out_channels, rank_of(out_channels, rank)
    return nn.Sequential(
        ConvBNAct(in_channels, out_channels, 1, norm_eps=norm_eps),
        conv_bn_act(out_channels, wide, 3, norm_eps, low),
        ConvBNAct(wide, out_channels, 1, norm_eps=norm_eps),
        conv_bn_act(out_channels, wide, 3, norm_eps, low),
        ConvBNAct(wide, out_channels, 1, norm_eps=norm_eps),
    )


class ConcatLevel(nn.Module):
    """One level of the ``concat`` fusion; an input with 0 channels is not used."""

    def __init__(
        self,
        lateral_channels: int,
        above_channels: int,
        out_channels: int,
        norm_eps: float,
        rank: float | None = None,
    ) -> None:
        super().__init__()
        self.reduce = ConvBNAct(above_channels, out_channels, 1, norm_eps=norm_eps) if above_channels else None
        reduced_channels = out_channels if above_channels else 0
        self.block = five_convs(reduced_channels + lateral_channels, out_channels, norm_eps, rank)
        self.lateral = lateral_channels > 0

    def forward(self, feature: Tensor, above: Tensor | None, upsample: str) -> Tensor:
        """c<k> [B, C, H, W] and p<k+1> [B, C', ~H/2, ~W/2] -> p<k> [B, out_channels, H, W]."""
        parts = []
        if self.reduce is not None and above is not None:
            parts.append(upsample_to(self.reduce(above), feature, upsample))
        if self.lateral:
            parts.append(feature)
        out: Tensor = self.block(cat(parts, dim=1))
        return out


class ConcatFPN(nn.Module):
    """YOLOv3's fusion: reduce the coarser map 1x1, upsample, concatenate with the backbone's map, five convolutions.

    Args:
        feature_info: channels and stride of each level of the backbone.
        levels: output levels, in ascending order.
        channels: of each built level, from the finest to p5; by default half of the backbone's.
        top_down: if False, each level uses its feature map of the backbone only.
        lateral: if False, each level but p5 uses the coarser level only.
        upsample: 'nearest' or 'bilinear'.
        norm_eps: epsilon of batch norm.
        rank: of the 3x3 kernels, as a share of their input channels (see ``LowRankConvBNAct``); by default any.

    Raises:
        ValueError: if the settings are inconsistent.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        levels: Sequence[int] = (3, 4, 5),
        channels: Sequence[int] | None = None,
        *,
        rank: float | None = None,
        top_down: bool = True,
        lateral: bool = True,
        upsample: str = "nearest",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        built = built_levels(levels, top_down=top_down, lateral=lateral)
        if channels is None:
            channels = [feature_info[f"c{k}"].channels // 2 for k in built]
        if len(channels) != len(built):
            raise ValueError(f"{len(channels)} channels for the {len(built)} levels {built} that are built")
        self.upsample = upsample
        self.top_down = top_down
        self.levels = tuple(levels)
        self.built_levels = tuple(built)
        self.feature_info = {
            f"p{k}": FeatureInfo(width, 2**k) for k, width in zip(built, channels, strict=True) if k in levels
        }
        above_channels = 0
        for k, width in reversed(list(zip(built, channels, strict=True))):
            lateral_channels = feature_info[f"c{k}"].channels if lateral or not above_channels else 0
            self.add_module(f"p{k}", ConcatLevel(lateral_channels, above_channels, width, norm_eps, rank))
            above_channels = width if top_down else 0

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c3": [B, C3, H/8, W/8], ...} -> {"p3": [B, P3, H/8, W/8], ...}, the finest level first."""
        pyramid: dict[str, Tensor] = {}
        above: Tensor | None = None
        for k in reversed(self.built_levels):
            out: Tensor = self.get_submodule(f"p{k}")(features[f"c{k}"], above, self.upsample)
            pyramid[f"p{k}"] = out
            above = out if self.top_down else None
        return {f"p{k}": pyramid[f"p{k}"] for k in self.levels}


class AddLevel(nn.Module):
    """One level of the ``add`` fusion: a 1x1 lateral unless it has 0 channels, and 3x3 smoothing if ``smooth``."""

    def __init__(self, lateral_channels: int, channels: int, *, smooth: bool) -> None:
        super().__init__()
        self.lateral = _linear_conv(lateral_channels, channels, 1) if lateral_channels else None
        self.smooth = _linear_conv(channels, channels, 3) if smooth else None

    def forward(self, feature: Tensor, above: Tensor | None, upsample: str) -> Tensor:
        """c<k> [B, C, H, W] and the merged map above [B, d, ~H/2, ~W/2] -> the merged map [B, d, H, W]."""
        upsampled = upsample_to(above, feature, upsample) if above is not None else None
        if self.lateral is None:
            assert upsampled is not None  # a level without lateral has one above
            return upsampled
        lateral: Tensor = self.lateral(feature)
        return lateral if upsampled is None else lateral + upsampled


def _linear_conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a convolution with bias and without non-linearity."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class AddFPN(nn.Module):
    """The FPN paper's fusion (arXiv 1612.03144, section 3): lateral + upsampled, no non-linearity, one width.

    Args:
        feature_info: channels and stride of each level of the backbone.
        levels: output levels, in ascending order.
        channels: channels of all levels, the paper's d.
        top_down: if False, each level uses its feature map of the backbone only.
        lateral: if False, each level but p5 uses the coarser level only.
        upsample: 'nearest' or 'bilinear', to the size of the lateral feature map.
        shared_smooth: all levels share one smoothing convolution; in the paper each has its own.

    Raises:
        ValueError: if the settings are inconsistent.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        levels: Sequence[int] = (3, 4, 5),
        channels: int = 256,
        *,
        top_down: bool = True,
        lateral: bool = True,
        upsample: str = "nearest",
        shared_smooth: bool = False,
    ) -> None:
        super().__init__()
        built = built_levels(levels, top_down=top_down, lateral=lateral)
        self.upsample = upsample
        self.top_down = top_down
        self.levels = tuple(levels)
        self.built_levels = tuple(built)
        self.feature_info = {f"p{k}": FeatureInfo(channels, 2**k) for k in levels}
        for k in reversed(built):
            lateral_channels = feature_info[f"c{k}"].channels if lateral or k == built[-1] else 0
            self.add_module(f"p{k}", AddLevel(lateral_channels, channels, smooth=k in levels and not shared_smooth))
        self.smooth = _linear_conv(channels, channels, 3) if shared_smooth else None

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c3": [B, C3, H/8, W/8], ...} -> {"p3": [B, d, H/8, W/8], ...}, the finest level first."""
        pyramid: dict[str, Tensor] = {}
        above: Tensor | None = None
        for k in reversed(self.built_levels):
            merged: Tensor = self.get_submodule(f"p{k}")(features[f"c{k}"], above, self.upsample)
            if k in self.levels:
                smooth = self.get_submodule(f"p{k}.smooth") if self.smooth is None else self.smooth
                pyramid[f"p{k}"] = smooth(merged)
            above = merged if self.top_down else None
        return {f"p{k}": pyramid[f"p{k}"] for k in self.levels}


class NoNeck(nn.Module):
    """Returns the feature maps c<k> of the backbone unchanged, named p<k>.

    Args:
        feature_info: channels and stride of each level of the backbone.
        levels: output levels, in ascending order.
    """

    def __init__(self, feature_info: Mapping[str, FeatureInfo], levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.feature_info = {f"p{k}": feature_info[f"c{k}"] for k in levels}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c4": [B, C4, H/16, W/16], ...} -> {"p4": the same, ...}, the finest level first."""
        return {f"p{k}": features[f"c{k}"] for k in self.levels}
