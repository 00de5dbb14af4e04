"""Builds backends for one detector; the graphs that they need are made once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from yolofpn.config import Metadata
from yolofpn.graphs.backend import Backend
from yolofpn.graphs.libraries import import_extra
from yolofpn.graphs.onnx_graph import ONNXGraph, open_session
from yolofpn.graphs.openvino_graph import OpenVINOGraph
from yolofpn.hardware import choose_dtype
from yolofpn.inference.backends import cache, convert
from yolofpn.inference.backends.torch_backend import TorchBackend
from yolofpn.structures import Detector


@dataclass(frozen=True)
class BackendBuilder:
    """Builds backends.

    Attributes:
        detector: whose dense part they run.
        metadata: of its weights.
        sizes: every (height, width) that the network will see; the first one is made ready at once.
        device: where PyTorch runs; the others run on the CPU.
        throughput: several batches will be in flight.
        compile: let torch.compile write the kernels of the torch backend.
    """

    detector: Detector
    metadata: Metadata
    sizes: Sequence[tuple[int, int]]
    device: torch.device
    throughput: bool = False
    compile: bool = False

    def build(self, name: str, precision: str) -> Backend:
        """The backend 'torch', 'openvino' or 'onnx'.

        Raises:
            UserError: a library that it needs is not installed.
        """
        if name == "torch":
            dtype = choose_dtype(precision, self.device)
            return TorchBackend(self.detector, self.device, dtype, compile=self.compile)
        names = convert.map_names(self.detector)
        if name == "onnx":
            return ONNXGraph(self._find_onnx, names, self.sizes[0])
        return OpenVINOGraph(self._find_openvino, names, self.sizes[0], precision, throughput=self.throughput)

    def is_ready(self, name: str) -> bool:
        """Nothing would have to be converted to build it."""
        return name == "torch" or all(cache.has_graph(self._graph_key(name, size)) for size in self.sizes)

    def verdict_key(self, name: str, precision: str) -> str:
        """What a finding about a backend depends on."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cache.machine()
        return cache.key(
            self._fingerprint, tuple(self.sizes), name, precision, cache.library_versions(name), where, self.compile
        )

    @cached_property
    def _fingerprint(self) -> str:
        assert isinstance(self.detector, nn.Module)
        return cache.fingerprint(self.detector, self.metadata)

    def _graph_key(self, name: str, size: tuple[int, int]) -> str:
        return cache.key(self._fingerprint, size, name, cache.library_versions(name))

    def _find_openvino(self, size: tuple[int, int]) -> Path:
        def write(path: Path) -> None:
            convert.save_openvino(convert.to_openvino(self.detector, size), path)

        core = import_extra("openvino").Core()
        return cache.cached_graph(self._graph_key("openvino", size), ".xml", write, core.read_model)

    def _find_onnx(self, size: tuple[int, int]) -> Path:
        def write(path: Path) -> None:
            convert.save_onnx(convert.to_onnx(self.detector, size), path)

        return cache.cached_graph(self._graph_key("onnx", size), ".onnx", write, open_session)
