"""Builds backends for one detector; the graphs that they need are made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from yolofpn import runtimes
from yolofpn.config import Metadata
from yolofpn.detector import Detector, input_form
from yolofpn.devices import choose_dtype
from yolofpn.errors import NaNOutputError, UserError
from yolofpn.runtimes import cache
from yolofpn.runtimes.backend import Backend, Batch, Wait, Wrapped
from yolofpn.runtimes.conversion import map_names
from yolofpn.runtimes.parity import TOLERANCES, check_images, compare_backends
from yolofpn.runtimes.runtime import Runtime
from yolofpn.runtimes.torch_backend import TorchBackend
from yolofpn.text import command


@dataclass(frozen=True)
class Verdict:
    """The result of comparing a backend with PyTorch in full precision.

    Attributes:
        passed: the detections are equal within the precision's tolerance.
        parity: in words.
    """

    passed: bool
    parity: str


@dataclass(frozen=True)
class AsTensors(Wrapped):
    """Around the backend of a graph, for a detector in PyTorch: its maps are tensors, of the same memory."""

    def start(self, batch: Batch) -> Wait:
        """Begins with the batch."""
        wait = self.inner.start(batch)
        return lambda: {name: torch.as_tensor(raw) for name, raw in wait().items()}


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
        identity: the fingerprint of the detector, if it is known.
    """

    detector: Detector
    metadata: Metadata
    sizes: Sequence[tuple[int, int]]
    device: torch.device
    throughput: bool = False
    compile: bool = False
    identity: str | None = None

    def build(self, name: str, precision: str) -> Backend:
        """The backend 'torch', or one of ``RUNTIMES``.

        Raises:
            UserError: a library that it needs is not installed, or the cache has no int8 graph of the detector.
        """
        if name == "torch":
            dtype = choose_dtype(precision, self.device)
            return TorchBackend(self.detector, self.device, dtype, compile=self.compile)
        runtime, names = runtimes.runtime_named(name), map_names(self.detector)
        find = partial(self._find_int8 if precision == "int8" else self._find, runtime)
        return AsTensors(runtime.open(find, names, self.sizes[0], precision, throughput=self.throughput))

    def make_graphs(self, name: str) -> None:
        """Make the graphs of all sizes, as far as they are not there."""
        for size in self.sizes:
            self._find(runtimes.runtime_named(name), size)

    def make_int8(self, name: str, images: Callable[[tuple[int, int]], Sequence[Tensor]]) -> None:
        """Make the int8 graphs of all sizes; ``images`` of a size are uint8 [1, 3, H, W] each."""
        runtime = runtimes.runtime_named(name)
        for size in self.sizes:

            def write(path: Path, size: tuple[int, int] = size) -> None:
                runtime.save(runtime.convert(self.detector, size, calibration=images(size)), path)

            cache.remove_graph(cache.graph_folder() / f"{self._graph_key(name, 'int8', size)}{runtime.suffix}")
            self._cached(runtime, "int8", size, write)

    def is_ready(self, name: str, precision: str = "fp32") -> bool:
        """Whether the graph is cached, so that no conversion is needed."""
        return name == "torch" or all(cache.has_graph(key) for key in self.graph_keys(name, precision))

    def graph_keys(self, name: str, precision: str) -> list[str]:
        """Names of the graphs of all sizes in the cache."""
        return [] if name == "torch" else [self._graph_key(name, precision, size) for size in self.sizes]

    def known_verdict(self, name: str, precision: str) -> Verdict | None:
        """Return the cached result of ``verdict``."""
        tree = cache.read_verdict(self._verdict_key(name, precision))
        try:
            return None if tree is None else Verdict(**tree)
        except TypeError:  # written by another version
            return None

    def verdict(self, name: str, precision: str) -> Verdict:
        """Compare a backend with PyTorch in full precision on the sample images: always the same, so it is kept."""
        if (known := self.known_verdict(name, precision)) is not None:
            return known
        built, reference = self.build(name, precision), self.build("torch", "fp32")
        images, tolerance = check_images(self.sizes[0], input_form(self.detector)), TOLERANCES[precision]
        try:
            parity = compare_backends(self.detector, reference, built, images, tolerance)
        except NaNOutputError:  # the run itself says what to do about it
            return Verdict(False, "its output is not a number")
        verdict = Verdict(parity.holds(tolerance), str(parity))
        cache.write_verdict(self._verdict_key(name, precision), asdict(verdict))
        return verdict

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the detector's weights and structure, computed unless it was given."""
        assert isinstance(self.detector, nn.Module)
        return self.identity or cache.fingerprint(self.detector, self.metadata)

    @property
    def place(self) -> str:
        """The machine, or the GPU of it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cache.machine()

    def _verdict_key(self, name: str, precision: str) -> str:
        return cache.key(
            self.fingerprint, tuple(self.sizes), name, precision, cache.library_versions(name), self.place, self.compile
        )

    def _graph_key(self, name: str, precision: str, size: tuple[int, int]) -> str:
        # One graph serves all floating-point types.
        kind = [precision] if precision == "int8" else []
        return cache.key(self.fingerprint, size, name, cache.library_versions(name), *kind)

    def _find(self, runtime: type[Runtime], size: tuple[int, int]) -> Path:
        def write(path: Path) -> None:
            runtime.save(runtime.convert(self.detector, size), path)

        return self._cached(runtime, "fp32", size, write)

    def _find_int8(self, runtime: type[Runtime], size: tuple[int, int]) -> Path:
        def write(_path: Path) -> None:
            raise UserError(f"no int8 graph of these weights is there: {command('tune')} makes it")

        return self._cached(runtime, "int8", size, write)

    def _cached(
        self, runtime: type[Runtime], precision: str, size: tuple[int, int], write: Callable[[Path], None]
    ) -> Path:
        return cache.cached_graph(self._graph_key(runtime.key, precision, size), runtime.suffix, write, runtime.read)
