"""What a model takes over from weights that were trained before."""

from __future__ import annotations

from yolofpn.config import Metadata
from yolofpn.models.yolo import YOLO
from yolofpn.weights import load_weights


def load_starting_weights(model: YOLO, metadata: Metadata, spec: str) -> list[str]:
    """Give ``model`` every tensor of equal name and shape; the lines to print."""
    loaded = load_weights(spec)
    given = loaded.detector.state_dict()
    own = model.state_dict()
    taken = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(taken, strict=False)
    return [*loaded.notes, f"weights: {len(taken)} of {len(own)} tensors taken from {spec}"]
