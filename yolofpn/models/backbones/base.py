"""What a backbone is: the network, beside the section of the YAML file that builds it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from yolofpn.structures import FeatureInfo


class Backbone(nn.Module):
    """A network from normalised images [B, 3, H, W] to {"c2": [B, C2, H/4, W/4], ... "c5": [B, C5, H/32, W/32]}.

    Attributes:
        conv5: name of the submodule that makes c5 of c4: two-stage detectors may run it on each region instead.
        feature_info: channels and stride of c2, c3 ... up to the coarsest level that was asked for.
    """

    conv5: ClassVar[str]
    feature_info: dict[str, FeatureInfo]

    def before_conv5(self) -> nn.Module:
        """Return the module that downsamples c4 before ``conv5``, if ``conv5`` itself has stride 1."""
        return nn.Identity()
