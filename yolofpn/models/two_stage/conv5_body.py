"""The backbone's last stage as the network of the second stage, in place of running on the whole picture."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from yolofpn.models.backbones.base import Backbone


class Conv5Body(nn.Module):
    """conv5_x on each region, then a global average (arXiv 1512.03385, appendix A; row (a) of arXiv 1612.03144).

    Args:
        backbone: up to c5; ends with c4 afterwards.

    Attributes:
        taken_from: where the stage was in the backbone, as in ``backbone.layer4``.
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
    """A state dict whose backbone has a last stage -> the same with this stage where ``body`` is in a detector."""
    before = f"{body.taken_from}."
    return {
        f"head.box.body.stage.{name.removeprefix(before)}" if name.startswith(before) else name: tensor
        for name, tensor in state.items()
    }
