"""The backbone's last stage as the head of the second stage, applied to each region."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone


class Conv5Body(nn.Module):
    """conv5_x on each region, then a global average (arXiv 1512.03385, appendix A; row (a) of arXiv 1612.03144).

    Args:
        backbone: a backbone up to c5; its last stage is moved here, so it ends with c4 afterwards.

    Attributes:
        taken_from: former name of the stage, such as ``backbone.layer4``.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        name = backbone.conv5
        self.taken_from = f"backbone.{name}"
        self.pool = backbone.before_conv5()
        self.stage = backbone.get_submodule(name)
        self.out_features = backbone.feature_info.pop("c5").channels
        parent, _, child = name.rpartition(".")
        delattr(backbone.get_submodule(parent), child)

    def forward(self, pooled: Tensor) -> Tensor:
        """[R, C4, size, size] -> [R, C5]."""
        out: Tensor = self.stage(self.pool(pooled))
        return out.mean(dim=(2, 3))


def with_conv5_in_head(state: Mapping[str, Tensor], body: Conv5Body) -> dict[str, Tensor]:
    """Move the last stage of the backbone in a state dict to the place of ``body`` in the detector."""
    before = f"{body.taken_from}."
    return {
        f"head.box.body.stage.{name.removeprefix(before)}" if name.startswith(before) else name: tensor
        for name, tensor in state.items()
    }
