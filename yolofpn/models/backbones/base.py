"""What a backbone is: a section of the YAML file, the network that it builds, and the pretrained files that fit it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from yolofpn.fields import StrictModel
from yolofpn.structures import FeatureInfo

# Of values in 0..1, RGB, unless a model says otherwise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Normalised images [B, 3, H, W] -> {"c2": [B, C2, H/4, W/4], ... "c5": [B, C5, H/32, W/32]}, sizes rounded up.

    Attributes:
        conv5: name of the submodule that makes c5 of c4: two-stage detectors may run it on each region instead.
        feature_info: channels and stride of c2, c3 ... up to the coarsest level that was asked for.
    """

    conv5: ClassVar[str]
    feature_info: dict[str, FeatureInfo]

    def before_conv5(self) -> nn.Module:
        """What halves c4 for ``conv5``, where that does not do so itself."""
        return nn.Identity()


@dataclass(frozen=True)
class Pretrained:
    """A backbone from a file of another project.

    Attributes:
        name: of the network, as shown to people.
        config: the section that describes it.
        state: its tensors by their names in the backbone.
        settings: what the config must say for these weights to mean what they meant: values by dotted key.
        tolerant: the config may say another ``norm_eps`` all the same.
    """

    name: str
    config: BackboneConfig
    state: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    tolerant: bool = True


class BackboneConfig(StrictModel):
    """The section ``model.backbone``; a subclass per kind, with ``type: Literal["its name"]``."""

    type: str

    @abstractmethod
    def build(self, norm_eps: float, top_level: int) -> Backbone:
        """The network with fresh weights.

        Args:
            norm_eps: of batch norm.
            top_level: the coarsest level that is needed, 2 to 5; what only the coarser ones need is omitted.
        """

    def accepts(self, given: BackboneConfig) -> bool:
        """Whether weights of the backbone ``given`` can start a training of this one."""
        return self == given

    @property
    def pretrained_name(self) -> str | None:
        """What ``find_pretrained`` knows the ImageNet weights of this backbone by; None if there are none."""
        return None

    @classmethod
    def find_pretrained(cls, name: str) -> Path | None:
        """The installed file of pretrained weights called ``name``; None if this kind has none of that name.

        Raises:
            UserError: it is not installed.
        """
        return None

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """The backbone in a file of another project; None if it holds another kind of network.

        Args:
            tensors: of the whole file.
            origin: the file, as shown to people.

        Raises:
            UserError: it is of this kind, but of no variant that can be built.
        """
        return None
