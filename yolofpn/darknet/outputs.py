"""What comes out of a cfg's network: its raw maps and how they are read."""

from __future__ import annotations

from yolofpn.darknet.layer_plan import PlannedLayer, divides
from yolofpn.darknet.sections import Region, Softmax, Yolo
from yolofpn.models.postprocess import MapSpec


def map_specs(plan: tuple[PlannedLayer, ...], input_size: tuple[int, int]) -> dict[str, MapSpec]:
    """How each raw map is read, by the number of its layer, at (height, width) of the cfg; empty for a classifier."""
    outputs = [layer for layer in plan if isinstance(layer.cfg.section, Yolo | Region)]
    last = outputs[-1].cfg.section if outputs else None
    exponent = last.nms_exponent if isinstance(last, Yolo) else None  # Darknet suppresses as its last output says
    return {str(layer.cfg.index): _map_spec(layer, input_size, exponent) for layer in outputs}


def _map_spec(layer: PlannedLayer, input_size: tuple[int, int], nms_exponent: float | None) -> MapSpec:
    stride, fits = int(layer.stride), divides(layer, *input_size)
    section = layer.cfg.section
    if isinstance(section, Yolo):
        return MapSpec(
            stride,
            section.anchors,
            section.scale_x_y,
            new_coords=section.new_coords,
            gaussian=section.gaussian,
            nms_exponent=nms_exponent,
            divides=fits,
        )
    assert isinstance(section, Region)
    anchors = tuple((w * stride, h * stride) for w, h in section.anchors)
    return MapSpec(
        stride,
        anchors,
        softmax=section.softmax,
        nms_exponent=nms_exponent,
        divides=fits,
        anchors_in_cells=not fits,
    )


def num_classes(plan: tuple[PlannedLayer, ...]) -> int:
    """Of the last output."""
    for layer in reversed(plan):
        match layer.cfg.section:
            case Yolo(classes=classes) | Region(classes=classes):
                return classes
    return next(layer.shape.channels for layer in reversed(plan) if isinstance(layer.cfg.section, Softmax))
