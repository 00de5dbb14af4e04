"""Checks that a graph matches its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolofpn.config import Metadata, YOLOHeadConfig
from yolofpn.errors import UserError
from yolofpn.models.map_specs import build_map_specs
from yolofpn.models.postprocess import MapSpec
from yolofpn.runtimes.runtime import GraphForm, GraphShape, Layout


def expected_specs(metadata: Metadata, origin: str) -> Mapping[str, MapSpec]:
    """How the maps of the network that ``metadata`` describes are read.

    Raises:
        UserError: it describes no one-stage detector.
    """
    if metadata.darknet_cfg is not None:
        from yolofpn.darknet.cfg import parse_cfg  # all layers of Darknet, for the graphs of its networks alone
        from yolofpn.darknet.layer_plan import plan_network
        from yolofpn.darknet.outputs import map_specs

        cfg = parse_cfg(metadata.darknet_cfg, origin)
        return map_specs(plan_network(cfg), (cfg.net.height, cfg.net.width))
    assert metadata.model is not None  # Metadata holds exactly one of the two
    head = metadata.model.head
    if not isinstance(head, YOLOHeadConfig):
        raise UserError(f"{origin}: its metadata is not that of a one-stage detector: export it again")
    return build_map_specs(head, metadata.model.neck.levels)


def check_graph(
    path: Path,
    metadata: Metadata,
    specs: Mapping[str, MapSpec],
    batch: int | None,
    graph: GraphShape,
    form: GraphForm = GraphForm(),  # noqa: B008  # frozen
) -> None:
    """See that maps, anchors and strides are those of the network, and that the graph has just these maps.

    Args:
        path: of the graph.
        metadata: of its weights.
        specs: how the file says that its maps are read.
        batch: the only batch size that the file says it takes; None: any.
        graph: what it really takes and gives.
        form: what the file says that it takes and gives.

    Raises:
        UserError: they do not agree.
    """
    expected = expected_specs(metadata, str(path))
    height, width = metadata.input.size
    channels = metadata.input.channels
    problem = None
    if list(specs) != list(expected):
        problem = f"names the maps {', '.join(specs) or '(none)'}, its network has {', '.join(expected)}"
    elif wrong := [name for name, spec in specs.items() if spec != expected[name]]:
        problem = f"reads the map {wrong[0]!r} with other anchors, stride or coding than its network"
    elif graph.is_uint8 not in (None, form.uint8) or list(graph.input) != [batch, channels, height, width]:
        kind = "bytes" if form.uint8 else "float"
        problem = f"takes {_shown(graph.input)}, not {kind} of {_shown([batch, channels, height, width])}"
    elif form.layout != "raw":
        wanted = _one_output(metadata, specs, batch, form.layout)
        if len(graph.outputs) != 1 or not _agree(graph.outputs[0], wanted):
            problem = f"gives {', '.join(map(_shown, graph.outputs))}, not {_shown(wanted)} ({form.layout})"
    elif len(graph.outputs) != len(specs):
        problem = f"gives {len(graph.outputs)} maps, its network has {len(specs)}"
    else:
        for (name, spec), found in zip(specs.items(), graph.outputs, strict=True):
            outputs = len(spec.anchors) * (spec.box_values + len(metadata.names))
            cells = (height // spec.stride, width // spec.stride) if spec.divides else (None, None)
            wanted = [batch, outputs, *cells]
            if not _agree(found, wanted):
                problem = f"gives {_shown(found)} for the map {name!r}, its network {_shown(wanted)}"
                break
    if problem:
        raise UserError(f"{path}: {problem}: the file was changed or damaged: export it again")


def _one_output(
    metadata: Metadata, specs: Mapping[str, MapSpec], batch: int | None, layout: Layout
) -> list[int | None]:
    """The sizes of the only output of a layout that is not raw."""
    if layout == "end2end":
        return [batch, metadata.postprocess.detections_per_img, 6]
    height, width = metadata.input.size
    cells = [(height // spec.stride) * (width // spec.stride) * len(spec.anchors) for spec in specs.values()]
    return [batch, 4 + len(metadata.names), sum(cells) if all(spec.divides for spec in specs.values()) else None]


def _agree(found: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    """Whether the sizes are equal as far as they are known."""
    return len(found) == len(wanted) and all(None in (a, b) or a == b for a, b in zip(found, wanted, strict=True))


def _shown(sizes: Sequence[int | None]) -> str:
    return "x".join("N" if size is None else str(size) for size in sizes)
