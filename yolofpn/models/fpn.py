"""The feature pyramid: backbone maps c<k> in, pyramid maps p<k> of the same stride out.

Both fusions share the top-down way and its switches. ``levels`` are the maps that come out; the way down always
starts at c5, so ``levels=(2,)`` is the finest map of a whole pyramid. Modules are keyed by level: the state dict
of a three-level neck is part of that of a four-level one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, cat, nn

from yolofpn.levels import built_levels
from yolofpn.models.layers import ConvBNAct, upsample_to
from yolofpn.structures import FeatureInfo


def five_convs(in_channels: int, out_channels: int, norm_eps: float) -> nn.Sequential:
    """YOLOv3's block of alternating 1x1 and 3x3 convolutions: in_channels -> out_channels."""
    wide = 2 * out_channels
    return nn.Sequential(
        ConvBNAct(in_channels, out_channels, 1, norm_eps=norm_eps),
        ConvBNAct(out_channels, wide, 3, norm_eps=norm_eps),
        ConvBNAct(wide, out_channels, 1, norm_eps=norm_eps),
        ConvBNAct(out_channels, wide, 3, norm_eps=norm_eps),
        ConvBNAct(wide, out_channels, 1, norm_eps=norm_eps),
    )


class ConcatLevel(nn.Module):
    """One level of the ``concat`` fusion; without ``above`` or without ``lateral`` it uses the other input alone."""

    def __init__(self, lateral: int | None, above: int | None, out_channels: int, norm_eps: float) -> None:
        super().__init__()
        self.reduce = ConvBNAct(above, out_channels, 1, norm_eps=norm_eps) if above else None
        fused_channels = (lateral or 0) + (out_channels if above else 0)
        self.block = five_convs(fused_channels, out_channels, norm_eps)
        self.lateral = lateral is not None

    def forward(self, feature: Tensor, above: Tensor | None, upsample: str) -> Tensor:
        """c<k> [B, C, H, W] and p<k+1> [B, C', ~H/2, ~W/2] -> p<k> [B, out_channels, H, W]."""
        parts = [feature] if self.lateral else []
        if above is not None and self.reduce is not None:
            parts.insert(0, upsample_to(self.reduce(above), feature, upsample))
        out: Tensor = self.block(cat(parts, dim=1))
        return out


class ConcatFPN(nn.Module):
    """YOLOv3's fusion: reduce the coarser map 1x1, upsample, concatenate with the backbone's map, five convolutions.

    Args:
        feature_info: of the backbone.
        levels: the maps that come out, in ascending order.
        channels: of each built level, from the finest to p5; by default half of the backbone's.
        top_down: off: every level sees its own backbone map only.
        lateral: off: every level but p5 sees the coarser level only.
        upsample: 'nearest' or 'bilinear'.
        norm_eps: of batch norm.

    Raises:
        ValueError: the switches contradict each other.
    """

    def __init__(
        self,
        feature_info: Mapping[str, FeatureInfo],
        levels: Sequence[int] = (3, 4, 5),
        channels: Sequence[int] | None = None,
        *,
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
        above = None
        for k, width in reversed(list(zip(built, channels, strict=True))):
            own = feature_info[f"c{k}"].channels if lateral or above is None else None
            self.add_module(f"p{k}", ConcatLevel(own, above, width, norm_eps))
            above = width if top_down else None

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
    """One level of the ``add`` fusion: the 1x1 lateral and, for maps that come out, the 3x3 smoothing."""

    def __init__(self, in_channels: int | None, channels: int, *, smooth: bool) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(in_channels, channels, 1) if in_channels else None
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1) if smooth else None
        for conv in (self.lateral, self.smooth):
            if conv is not None:
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


class AddFPN(nn.Module):
    """The FPN paper's fusion (arXiv 1612.03144, section 3): lateral + upsampled, no non-linearity, one width.

    Args:
        feature_info: of the backbone.
        levels: the maps that come out, in ascending order.
        channels: of every map, the paper's d.
        top_down: off: every level sees its own backbone map only.
        lateral: off: every level but p5 sees the coarser level only.
        upsample: 'nearest' or 'bilinear'; to the lateral's own size, so odd sizes fit.

    Raises:
        ValueError: the switches contradict each other.
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
    ) -> None:
        super().__init__()
        built = built_levels(levels, top_down=top_down, lateral=lateral)
        self.upsample = upsample
        self.top_down = top_down
        self.levels = tuple(levels)
        self.built_levels = tuple(built)
        self.feature_info = {f"p{k}": FeatureInfo(channels, 2**k) for k in levels}
        for k in reversed(built):
            own = feature_info[f"c{k}"].channels if lateral or k == built[-1] else None
            self.add_module(f"p{k}", AddLevel(own, channels, smooth=k in levels))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"c3": [B, C3, H/8, W/8], ...} -> {"p3": [B, d, H/8, W/8], ...}, the finest level first."""
        pyramid: dict[str, Tensor] = {}
        above: Tensor | None = None
        for k in reversed(self.built_levels):
            level, feature = self.get_submodule(f"p{k}"), features[f"c{k}"]
            assert isinstance(level, AddLevel)
            merged = level.lateral(feature) if level.lateral else None
            if above is not None:
                upsampled = upsample_to(above, feature, self.upsample)
                merged = upsampled if merged is None else merged + upsampled
            if level.smooth:
                pyramid[f"p{k}"] = level.smooth(merged)
            above = merged if self.top_down else None
        return {f"p{k}": pyramid[f"p{k}"] for k in self.levels}
