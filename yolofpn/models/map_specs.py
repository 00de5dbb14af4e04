"""How the raw maps of a one-stage detector are read, by its config alone: no network is built for it."""

from __future__ import annotations

from collections.abc import Sequence

from yolofpn.models.model_config import YOLOHeadConfig
from yolofpn.models.postprocess import MapSpec


def build_map_specs(head: YOLOHeadConfig, levels: Sequence[int]) -> dict[str, MapSpec]:
    """Of the map of each level of the neck, the finest first; p<k> has stride 2 ** k."""
    return {
        f"p{level}": MapSpec(
            2**level,
            anchors,
            head.scale_x_y,
            linear_xy=head.xy == "linear",
            softmax=head.classes == "softmax",
        )
        for level, anchors in zip(levels, head.anchors, strict=True)
    }
