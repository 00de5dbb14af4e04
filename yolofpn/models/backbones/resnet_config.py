"""The section of ``ResNet``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from yolofpn.errors import UserError
from yolofpn.models.backbones.section import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneConfig,
    NormKind,
    Pretrained,
    ResNetDepth,
)

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.models.backbones.resnet import ResNet

_IMAGENET_SETTINGS: Mapping[str, Any] = {"model.norm_eps": 1e-5, "input.mean": IMAGENET_MEAN, "input.std": IMAGENET_STD}
_FIRST = "layer1.0.conv1.weight"


class ResNetConfig(BackboneConfig):
    """A ResNet (arXiv 1512.03385), whose tensors have torchvision's names.

    Attributes:
        depth: 18 and 34 have basic blocks, 50, 101 and 152 bottlenecks.
        norm: 'frozen' keeps batch norm as the initial weights have it, 'live' trains it.
    """

    type: Literal["resnet"]
    depth: ResNetDepth
    norm: NormKind = "live"

    def build(self, norm_eps: float, top_level: int) -> ResNet:
        """See ``ResNet``."""
        from yolofpn.models.backbones.resnet import ResNet

        return ResNet(self.depth, self.norm, norm_eps, top_level)

    def accepts(self, given: BackboneConfig) -> bool:
        """Of the same depth."""
        return isinstance(given, ResNetConfig) and given.depth == self.depth

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """Torchvision's ImageNet files, and others with its names, without their classifier."""
        if _FIRST not in tensors:
            return None
        state = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
        from yolofpn.models.backbones.resnet import depth_of

        depth = depth_of(state)
        if depth is None:
            raise UserError(
                f"{origin}: no ResNet-18, -34, -50, -101 or -152: its blocks have other shapes\n"
                "start from torchvision's file of one of these"
            )
        return Pretrained(f"ResNet-{depth}", cls(type="resnet", depth=depth), state, _IMAGENET_SETTINGS)
