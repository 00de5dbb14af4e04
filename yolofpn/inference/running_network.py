"""A detector ready to run: what runs its dense part, and what turns the maps into detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.inference.predictor_options import PredictorOptions
from yolofpn.runtimes.exported import ExportedDetector

if TYPE_CHECKING:
    import torch

from yolofpn import runtimes
from yolofpn.runtimes.backend import Backend

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Choice:
    """A backend, and the line that says why it was taken."""

    backend: Backend
    note: str


def choose_exported(
    detector: ExportedDetector, sizes: Sequence[tuple[int, int]], *, backend: str, precision: str, throughput: bool
) -> Choice:
    """The runtime of a graph.

    Args:
        detector: the graph.
        sizes: every (height, width) that it will see.
        backend: 'auto' or its runtime.
        precision: 'auto' or one that the runtime has.
        throughput: several batches will be in flight.

    Raises:
        UserError: it takes another size, is for another backend, or holds another precision.
        ValueError: there is no such backend or precision.
    """
    check_names(backend, precision)
    for size in sizes:
        detector.find_graph(size)
    if backend == "auto":  # for one image, the runtime that starts first
        runtime = runtimes.runtimes_of(detector.path)[0] if throughput else detector.runtime
    else:
        able = {each.key: each for each in runtimes.RUNTIMES if each.can_open(detector.path)}
        if backend not in able:
            raise UserError(f"{detector.path}: is a graph for the {detector.runtime.key} backend, not for {backend}")
        runtime = able[backend]
        runtime.library()
    fixed = precision not in runtime.precisions or "int8" in (detector.precision, precision)
    if fixed and precision not in ("auto", detector.precision):
        raise UserError(f"{detector.path}: holds {detector.precision}, not {precision}: export it again for that")
    chosen = detector.backend(None if precision == "auto" else precision, runtime, throughput=throughput)
    return Choice(chosen, f"backend: {describe(chosen)} (the weights are a graph for it)")


def check_names(backend: str, precision: str) -> None:
    """See that there is such a backend and such a precision.

    Raises:
        ValueError: there is not.
    """
    backends = ("auto", "torch", *(runtime.key for runtime in runtimes.RUNTIMES))
    for kind, name, known in (("backend", backend, backends), ("precision", precision, PRECISIONS)):
        if name not in known:
            raise ValueError(f"{kind} {name!r} is none of {', '.join(known)}")


def describe(backend: Backend) -> str:
    """'openvino fp32'."""
    return f"{backend.name} {backend.precision}"


class HostDevice(str):
    """The CPU, where PyTorch may be missing: its name, which PyTorch takes for a device too."""

    type = "cpu"


@dataclass(frozen=True)
class Network:
    """What a ``Predictor`` runs.

    Attributes:
        detector: a copy on its device, or a graph.
        device: where it runs.
        choice: what runs it and why.
        postprocessor: turns the maps into detections: the detector, or of one with two stages a faster copy.
        around_postprocess: the context in which it does so, given the precision.
    """

    detector: Detector
    device: torch.device | HostDevice
    choice: Choice
    postprocessor: Detector
    around_postprocess: Callable[[str], AbstractContextManager[object]] = lambda _precision: nullcontext()


def open_graph(detector: ExportedDetector, sizes: Sequence[tuple[int, int]], options: PredictorOptions) -> Network:
    """An exported graph, which runs without PyTorch.

    Raises:
        UserError: it cannot run so.
    """
    if options.device not in ("auto", "cpu"):
        raise UserError(f"{detector.path}: is run on the CPU only: --device cpu")
    choice = choose_exported(
        detector,
        sizes,
        backend=options.backend,
        precision=options.precision,
        throughput=options.workload == "many",
    )
    return Network(detector, HostDevice("cpu"), choice, detector)
