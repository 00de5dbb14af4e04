"""The section of ``TinyDarknet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from yolofpn.models.backbones.section import BackboneConfig

if TYPE_CHECKING:
    from yolofpn.models.backbones.yolov3_tiny import TinyDarknet


class TinyDarknetConfig(BackboneConfig):
    """The backbone of yolov3-tiny.cfg: 3x3 convolutions with max-pooling in between.

    Attributes:
        rank: of the last convolution's kernel, which has more than half of all weights and 1024 output channels; null
            leaves it whole.
    """

    type: Literal["darknet_tiny"]
    rank: int | None = Field(default=None, gt=0, le=1024)

    def build(self, norm_eps: float, top_level: int) -> TinyDarknet:
        """See ``TinyDarknet``."""
        from yolofpn.models.backbones.yolov3_tiny import TinyDarknet

        return TinyDarknet(norm_eps, top_level, self.rank)

    def accepts(self, given: BackboneConfig) -> bool:
        """Of any rank: a lower one is computed from a whole kernel (``training/start_low_rank.py``)."""
        return isinstance(given, TinyDarknetConfig)
