"""``--weights auto``: the best start that is at hand for a model without downloading anything."""

from __future__ import annotations

from yolofpn.config import BackboneConfig, EfficientNetLiteConfig, ModelConfig, TinyDarknetConfig
from yolofpn.errors import UserError
from yolofpn.shipped import default_weights
from yolofpn.training.start_efficientnet_lite import find_package_weights
from yolofpn.weights import read_metadata

AUTO = "auto"


def _fits(given: BackboneConfig, own: BackboneConfig) -> bool:
    """Whether a backbone can take over another one's weights; a narrower tiny one takes the channels that matter."""
    return given == own or (isinstance(given, TinyDarknetConfig) and isinstance(own, TinyDarknetConfig))


def choose_start(model: ModelConfig) -> tuple[str | None, str]:
    """What a training of ``model`` should start from, None for random initialisation, and a line that says so.

    The default weights where they have the same backbone, else its ImageNet weights where they are installed.

    Raises:
        UserError: the default weights are damaged.
    """
    backbone = model.backbone
    default = read_metadata(default_weights()).model
    if default is not None and _fits(default.backbone, backbone):
        return AUTO, "weights: auto: the default weights, which have the same backbone (--weights none: from scratch)"
    if isinstance(backbone, EfficientNetLiteConfig):
        name = f"efficientnet-lite{backbone.variant}"
        try:
            find_package_weights(name)
        except UserError as error:
            return None, f"weights: auto: random initialisation; better: {str(error).splitlines()[0]}"
        return name, f"weights: auto: {name}, trained on ImageNet (--weights none: from scratch)"
    return None, f"weights: auto: random initialisation, as nothing at hand fits a backbone of type {backbone.type}"
