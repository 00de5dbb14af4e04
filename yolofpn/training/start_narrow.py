"""A wider YOLOv3-tiny as the start of a narrower one: the channels that matter least are cut out."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# The convolution that may lose outputs, and the one that reads them.
_CUTS = (
    ("backbone.stages.5.3", "neck.p5.conv"),
    ("head.p4.conv", "head.p4.predict"),
    ("head.p5.conv", "head.p5.predict"),
)
_PARTS = ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")


def narrowed(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``given`` with as many channels as ``own`` has where those of a tiny network are wider.

    Kept are the outputs that weigh most in the layer behind: |batch norm's scale| times the norm of the weights that
    read them (arXiv 1708.06519 takes the scale alone). Other states come back as they are.

    Args:
        given: a state dict to start from.
        own: that of the model.
    """
    narrow = dict(given)
    for layer, reader in _CUTS:
        kernel, reading = f"{layer}.conv.weight", f"{reader}.weight"
        if not {kernel, reading} <= given.keys() & own.keys():
            continue
        width = own[kernel].shape[0]
        if width >= given[kernel].shape[0] or own[kernel].shape[1:] != given[kernel].shape[1:]:
            continue
        weight = narrow[reading]
        importance = given[f"{layer}.norm.weight"].abs() * weight.pow(2).sum(dim=(0, 2, 3)).sqrt()
        kept = importance.topk(width).indices.sort().values
        for part in _PARTS:
            narrow[f"{layer}.{part}"] = given[f"{layer}.{part}"][kept]
        narrow[reading] = weight[:, kept]
    return narrow
