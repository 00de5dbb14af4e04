"""``--weights auto``: the best start that is at hand for a model without downloading anything."""

from __future__ import annotations

from yolofpn.config import ModelConfig
from yolofpn.errors import UserError
from yolofpn.shipped import default_weights, initial_weights, verify_weights
from yolofpn.weights import read_metadata

AUTO = "auto"


def choose_start(model: ModelConfig) -> tuple[str | None, str]:
    """Choose the initial weights of ``model`` (None: random initialisation); also return a message.

    The default weights where they have the same backbone, else others that ship with the project, else the backbone's
    ImageNet weights where they are installed.

    Raises:
        UserError: the default weights are damaged.
    """
    backbone = model.backbone
    default = read_metadata(default_weights(verify=False)).model  # checked when they are loaded
    if default is not None and backbone.accepts(default.backbone):
        return AUTO, "weights: auto: the default weights, which have the same backbone (--weights none: from scratch)"
    for path in initial_weights():
        given = read_metadata(path).model
        if given is not None and backbone.accepts(given.backbone):
            verify_weights(path)
            return str(path), f"weights: auto: {path.name}, which have the same backbone (--weights none: from scratch)"
    name = backbone.pretrained_name
    if name is None:
        return None, f"weights: auto: random initialisation, as nothing at hand fits a backbone of type {backbone.type}"
    try:
        backbone.find_pretrained(name)
    except UserError as error:
        return None, f"weights: auto: random initialisation; better: {str(error).splitlines()[0]}"
    return name, f"weights: auto: {name}, trained on ImageNet (--weights none: from scratch)"
