"""The sections of the Darknet backbones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from yolofpn.fields import Share
from yolofpn.models.backbones.section import IMAGENET_MEAN, IMAGENET_STD, BackboneConfig, Pretrained

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.models.backbones.darknet import Darknet, Darknet19


_TIMM_SETTINGS: Mapping[str, Any] = {
    "model.leaky_slope": 0.01,
    "model.norm_eps": 1e-5,
    "input.mean": IMAGENET_MEAN,
    "input.std": IMAGENET_STD,
}
_TIMM_FIRST = "stem.conv1.conv.weight"
_TIMM_PLACES = (
    (re.compile(r"stem\.conv1\."), "stem."),
    (re.compile(r"stages\.(\d+)\.conv_down\."), r"stages.{0}.0."),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(conv[12])\."), r"stages.{0}.{1}.{2}."),
)


class Darknet53Config(BackboneConfig):
    """YOLOv3's backbone (arXiv 1804.02767, table 1)."""

    type: Literal["darknet53"]

    def build(self, norm_eps: float, top_level: int) -> Darknet:
        """See ``darknet53``."""
        from yolofpn.models.backbones.darknet import darknet53

        return darknet53(norm_eps, top_level)

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """Timm's ``darknet53`` without its classifier."""
        if _TIMM_FIRST not in tensors:
            return None
        state = {_rename_timm(name): tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        if None in state:
            return None
        named = {str(name): tensor for name, tensor in state.items()}
        return Pretrained("Darknet-53", cls(type="darknet53"), named, _TIMM_SETTINGS, tolerant=False)


class Darknet19Config(BackboneConfig):
    """YOLOv2's backbone (arXiv 1612.08242, table 6)."""

    type: Literal["darknet19"]

    def build(self, norm_eps: float, top_level: int) -> Darknet19:
        """See ``Darknet19``."""
        from yolofpn.models.backbones.darknet import Darknet19

        return Darknet19(norm_eps, top_level)


class ScaledDarknetConfig(BackboneConfig):
    """Darknet-53's plan with fewer channels and blocks, for small models.

    Attributes:
        width: share of the channels.
        depth: share of the blocks of each stage, of which one is left at least.
        stem_stride: with 2 the stem halves the image itself and takes the place of the first stage.
        rank: of the 3x3 kernels in the residual blocks of c4 and c5, as a share of their input channels; null leaves
            them whole.
    """

    type: Literal["darknet"]
    width: float = Field(default=1.0, gt=0, le=4)
    depth: float = Field(default=1.0, gt=0, le=4)
    stem_stride: Literal[1, 2] = 1
    rank: Share | None = None

    def build(self, norm_eps: float, top_level: int) -> Darknet:
        """See ``scaled_darknet``."""
        from yolofpn.models.backbones.darknet import scaled_darknet

        return scaled_darknet(self.width, self.depth, norm_eps, top_level, self.stem_stride, self.rank)

    def accepts(self, given: BackboneConfig) -> bool:
        """The same of any rank (``training/start_low_rank.py``), or Darknet-53: tensors of equal shape are taken."""
        same = isinstance(given, ScaledDarknetConfig) and given == self.model_copy(update={"rank": given.rank})
        return same or isinstance(given, Darknet53Config)


def _rename_timm(name: str) -> str | None:
    """Our name of one of timm's tensors; None if Darknet-53 has no such tensor."""
    for pattern, place in _TIMM_PLACES:
        if match := pattern.match(name):
            numbers = list(match.groups())
            if len(numbers) == 3:
                numbers[1] = str(int(numbers[1]) + 1)  # our block 0 is the convolution that halves the size
            kind, _, rest = name[match.end() :].partition(".")
            ours = {"conv": "conv", "bn": "norm"}.get(kind)
            return f"{place.format(*numbers)}{ours}.{rest}" if ours and "." not in rest else None
    return None
