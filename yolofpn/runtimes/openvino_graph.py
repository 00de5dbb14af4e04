"""Graphs on OpenVINO."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolofpn.hardware import num_threads
from yolofpn.runtimes.backend import Wait, as_uint8
from yolofpn.runtimes.libraries import import_extra
from yolofpn.runtimes.newest import NewestSizes
from yolofpn.runtimes.signal_stack import kept_signal_stack

# Always given: the library's own default is bf16 where the processor has any instruction for it, however slow.
# int8 is in the graph itself; what is left of it is computed in float32.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


@dataclass(frozen=True)
class _Compiled:
    """A graph for one size of input and batch, and its requests that are not in flight."""

    graph: Any
    batch: int
    idle: deque[Any] = field(default_factory=deque)


@dataclass
class _Graphs:
    """For one size of input: the graph for one picture (or what the file has), and that of the largest batch so far."""

    first: _Compiled
    most: _Compiled


class OpenVINOGraph:
    """A ``Backend``: the graph of each (height, width) is compiled when it is first needed.

    Args:
        find_graph: (height, width) -> the .xml file of the graph for it.
        map_names: of the graph's outputs, in their order.
        size: (height, width) to compile for at once.
        precision: of the arithmetic; 'int8' only if the graph is quantised.
        throughput: several batches will be in flight: each one gets a part of the processors, which is faster in all.
    """

    name = "openvino"

    def __init__(
        self,
        find_graph: Callable[[tuple[int, int]], Path],
        map_names: Sequence[str],
        size: tuple[int, int],
        precision: str,
        *,
        throughput: bool = False,
    ) -> None:
        self.precision = precision
        self._find_graph = find_graph
        self._map_names = tuple(map_names)
        self._throughput = throughput
        self._core = import_extra("openvino").Core()
        self._graphs = NewestSizes(self._open)
        self._lock = threading.Lock()
        graph = self._graphs[size].first.graph
        # One more than run at once: it waits in the library's queue, so that no processor idles while results are read.
        self.slots = 1 + int(graph.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) if throughput else 1

    def start(self, batch: Tensor) -> Wait:
        """Queues the work; the library's own threads do it."""
        pictures = as_uint8(batch).numpy()
        count, _, height, width = pictures.shape
        with self._lock:
            graphs = self._graphs[height, width]
            if graphs.most.batch < count:
                graphs.most = self._compile(count, (height, width))
        if graphs.first.batch > 1 or 2 * count > graphs.most.batch:
            return self._run(graphs.most, pictures)
        # More than half of the large graph's work would be on empty pictures.
        waits = [self._run(graphs.first, pictures[index : index + 1]) for index in range(count)]
        return lambda: _joined([wait() for wait in waits])

    def _run(self, compiled: _Compiled, pictures: NDArray[np.uint8]) -> Wait:
        count = len(pictures)
        if count < compiled.batch:  # the end of a video: empty pictures fill up, as compiling anew would take longer
            pictures = np.concatenate([pictures, np.zeros((compiled.batch - count, *pictures.shape[1:]), np.uint8)])
        request = compiled.idle.pop() if compiled.idle else compiled.graph.create_infer_request()
        request.start_async({0: pictures}, share_inputs=True)

        def wait() -> dict[str, Tensor]:
            request.wait()
            outputs = (request.get_output_tensor(index).data for index in range(len(self._map_names)))
            maps = {
                name: torch.from_numpy(output[:count].astype(np.float32, copy=True))
                for name, output in zip(self._map_names, outputs, strict=True)
            }
            compiled.idle.append(request)
            return maps

        return wait

    def _open(self, size: tuple[int, int]) -> _Graphs:
        compiled = self._compile(1, size)
        return _Graphs(compiled, compiled)

    def _compile(self, batch: int, size: tuple[int, int]) -> _Compiled:
        model = self._core.read_model(self._find_graph(size))
        if model.input(0).partial_shape[0].is_dynamic:
            model.reshape([batch, 3, *size])
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT" if self._throughput else "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
        }
        with kept_signal_stack():
            graph = self._core.compile_model(model, "CPU", settings)
        return _Compiled(graph, int(graph.input(0).shape[0]))


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The maps of single pictures as those of their batch."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
