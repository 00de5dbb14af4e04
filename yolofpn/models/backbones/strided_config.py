"""The section of ``StridedBackbone``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from yolofpn.fields import Channels
from yolofpn.models.backbones.section import BackboneConfig

if TYPE_CHECKING:
    from yolofpn.models.backbones.strided import StridedBackbone


class StridedConfig(BackboneConfig):
    """One convolution of stride 2 per level, the smallest bottom-up pathway.

    Attributes:
        width: channels of the first convolution; each of the other four doubles them.
    """

    type: Literal["strided"]
    width: Channels = 64

    def build(self, norm_eps: float, top_level: int) -> StridedBackbone:
        """See ``StridedBackbone``."""
        from yolofpn.models.backbones.strided import StridedBackbone

        return StridedBackbone(self.width, norm_eps, top_level)
