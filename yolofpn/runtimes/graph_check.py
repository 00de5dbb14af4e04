"""Checks that a graph matches its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolofpn.config import Metadata, YOLOHeadConfig
from yolofpn.darknet.cfg import parse_cfg
from yolofpn.darknet.layer_plan import plan_network
from yolofpn.darknet.outputs import map_specs
from yolofpn.errors import UserError
from yolofpn.models.map_specs import build_map_specs
from yolofpn.models.postprocess import MapSpec
from yolofpn.runtimes.runtime import GraphShape


def expected_specs(metadata: Metadata, origin: str) -> Mapping[str, MapSpec]:
    """How the maps of the network that ``metadata`` describes are read.

    Raises:
        UserError: it describes no one-stage detector.
    """
    if metadata.darknet_cfg is not None:
        cfg = parse_cfg(metadata.darknet_cfg, origin)
        return map_specs(plan_network(cfg), (cfg.net.height, cfg.net.width))
    assert metadata.model is not None  # Metadata holds exactly one of the two
    head = metadata.model.head
    if not isinstance(head, YOLOHeadConfig):
        raise UserError(f"{origin}: its metadata is not that of a one-stage detector: export it again")
    return build_map_specs(head, metadata.model.neck.levels)


def check_graph(
    path: Path, metadata: Metadata, specs: Mapping[str, MapSpec], batch: int | None, graph: GraphShape
) -> None:
    """See that maps, anchors and strides are those of the network, and that the graph has just these maps.

    Args:
        path: of the graph.
        metadata: of its weights.
        specs: how the file says that its maps are read.
        batch: the only batch size that the file says it takes; None: any.
        graph: what it really takes and gives.

    Raises:
        UserError: they do not agree.
    """
    expected = expected_specs(metadata, str(path))
    height, width = metadata.input.size
    problem = None
    if list(specs) != list(expected):
        problem = f"names the maps {', '.join(specs) or '(none)'}, its network has {', '.join(expected)}"
    elif wrong := [name for name, spec in specs.items() if spec != expected[name]]:
        problem = f"reads the map {wrong[0]!r} with other anchors, stride or coding than its network"
    elif not graph.is_uint8 or list(graph.input) != [batch, 3, height, width]:
        problem = f"takes {_shown(graph.input)}, not bytes of {_shown([batch, 3, height, width])}"
    elif len(graph.outputs) != len(specs):
        problem = f"gives {len(graph.outputs)} maps, its network has {len(specs)}"
    else:
        for (name, spec), found in zip(specs.items(), graph.outputs, strict=True):
            channels = len(spec.anchors) * (spec.box_values + len(metadata.names))
            cells = (height // spec.stride, width // spec.stride) if spec.divides else (None, None)
            wanted = [batch, channels, *cells]
            if len(found) != 4 or any(None not in (a, b) and a != b for a, b in zip(found, wanted, strict=True)):
                problem = f"gives {_shown(found)} for the map {name!r}, its network {_shown(wanted)}"
                break
    if problem:
        raise UserError(f"{path}: {problem}: the file was changed or damaged: export it again")


def _shown(sizes: Sequence[int | None]) -> str:
    return "x".join("N" if size is None else str(size) for size in sizes)
