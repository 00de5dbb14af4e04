"""What runs a detector, and the choice for an exported graph, which needs no PyTorch: ``choose.py`` is for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolofpn import runtimes
from yolofpn.errors import UserError
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.exported import ExportedDetector

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
    runtime = detector.runtime
    if backend not in ("auto", runtime.key):
        raise UserError(f"{detector.path}: is a graph for the {runtime.key} backend, not for {backend}")
    fixed = precision not in runtime.precisions or "int8" in (detector.precision, precision)
    if fixed and precision not in ("auto", detector.precision):
        raise UserError(f"{detector.path}: holds {detector.precision}, not {precision}: export it again for that")
    chosen = detector.backend(None if precision == "auto" else precision, throughput=throughput)
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
