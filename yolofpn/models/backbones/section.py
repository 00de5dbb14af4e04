"""The section of the YAML file that describes a backbone, without the network itself.

It is read without PyTorch, which exported graphs do not need; ``build`` imports the network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from yolofpn.fields import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from yolofpn.models.backbones.base import Backbone

ResNetDepth = Literal[18, 34, 50, 101, 152]
NormKind = Literal["live", "frozen"]
EfficientNetLiteVariant = Literal[0, 1, 2]

# Of values in 0..1, RGB, unless a model says otherwise.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        """The network with newly initialised weights.

        Args:
            norm_eps: epsilon of batch norm.
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
            UserError: if it is not installed.
        """
        return None

    @classmethod
    def read_pretrained(cls, tensors: Mapping[str, Tensor], origin: str) -> Pretrained | None:
        """The backbone in a file of another project; None if it holds another kind of network.

        Args:
            tensors: of the whole file.
            origin: the file, as shown to people.

        Raises:
            UserError: if it is of this kind, but of no variant that can be built.
        """
        return None
