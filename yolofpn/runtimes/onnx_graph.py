"""Graphs on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolofpn.hardware import num_threads
from yolofpn.runtimes.backend import Wait, as_uint8
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.newest import NewestSizes


class ONNXGraph:
    """A ``Backend``: the graph of each (height, width) is opened when it is first needed.

    Args:
        find_graph: (height, width) -> the .onnx file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to open at once.
    """

    name = "onnx"
    precision = "fp32"  # on processors ONNX Runtime has no shorter floating-point type
    slots = 1

    def __init__(
        self, find_graph: Callable[[tuple[int, int]], Path], map_names: Sequence[str], size: tuple[int, int]
    ) -> None:
        self._map_names = tuple(map_names)
        self._sessions: NewestSizes[Any] = NewestSizes(lambda size: open_session(find_graph(size)))
        _ = self._sessions[size]

    def start(self, batch: Tensor) -> Wait:
        """The work is done when this returns."""
        count = len(batch)
        session = self._sessions[batch.shape[2], batch.shape[3]]
        node = session.get_inputs()[0]
        pictures = as_uint8(batch).numpy()
        if isinstance(node.shape[0], int) and count < node.shape[0]:
            empty = np.zeros((node.shape[0] - count, *pictures.shape[1:]), np.uint8)
            pictures = np.concatenate([pictures, empty])
        outputs = session.run(None, {node.name: pictures})
        maps = {name: torch.from_numpy(output[:count]) for name, output in zip(self._map_names, outputs, strict=True)}
        return lambda: maps


def open_session(path: Path) -> Any:  # noqa: ANN401
    """An ONNX Runtime session on the CPU."""
    runtime = import_extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 3  # errors only; its warnings are about nodes that it removes
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
