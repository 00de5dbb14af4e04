"""Which backend runs a detector: the one asked for, or the fastest one here that finds what PyTorch finds.

A graph has to be made once for each weights file, input size and version, which takes seconds, and is then kept. So
``auto`` makes one where many pictures are coming, and otherwise takes one that is there already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from yolofpn.config import Metadata
from yolofpn.errors import UserError
from yolofpn.graphs.backend import Backend
from yolofpn.graphs.exported import ExportedDetector
from yolofpn.graphs.libraries import import_extra, is_installed
from yolofpn.graphs.timing import seconds_per_pass
from yolofpn.hardware import is_fast_at_bf16
from yolofpn.inference.backends import cache
from yolofpn.inference.backends.build import BackendBuilder
from yolofpn.inference.backends.parity import TOLERANCES, check_pictures, compare_backends
from yolofpn.inference.backends.second_stage import has_second_stage
from yolofpn.structures import Detector

# few: the next picture may be the last; live: each result is awaited; many: it is the sum that counts.
Workload: TypeAlias = Literal["few", "live", "many"]
BACKENDS = ("auto", "torch", "openvino", "onnx")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}
_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """A backend, and the line that says why it was taken."""

    backend: Backend
    note: str


@dataclass(frozen=True)
class Verdict:
    """What was found out about a backend with one detector on this machine.

    Attributes:
        passed: it finds what PyTorch finds.
        milliseconds: per picture.
        parity: in words.
    """

    passed: bool
    milliseconds: float
    parity: str


def choose_backend(
    detector: Detector,
    metadata: Metadata,
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
    *,
    backend: str = "auto",
    precision: str = "auto",
    workload: Workload = "few",
    sizes_vary: bool = False,
    compile: bool = False,
) -> Choice:
    """The backend of that name and precision; 'auto' finds the fastest.

    Args:
        detector: whose dense part is run.
        metadata: of its weights.
        sizes: every (height, width) that the network will see.
        device: where the network runs; other devices than the CPU have PyTorch only.
        backend: one of ``BACKENDS``.
        precision: one of ``PRECISIONS``.
        workload: what is coming.
        sizes_vary: pictures come in sizes of their own, for each of which a graph would have to be made.
        compile: let torch.compile write the kernels of the torch backend.

    Raises:
        UserError: it is not installed, cannot do that precision, or cannot run this detector.
        ValueError: there is no such backend or precision.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is none of {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if isinstance(detector, ExportedDetector):
        for size in sizes:
            detector.find_graph(size)
        return _choose_exported(detector, device, backend, precision, throughput=workload == "many")
    if precision == "int8":
        raise UserError(
            "int8 needs pictures to take its ranges from: write a graph with export.py --format openvino\n"
            "--precision int8 --calibration DATA OUT.xml, and give --weights OUT.xml"
        )
    if backend in _MODULES:
        if device.type != "cpu":
            raise UserError(f"the {backend} backend runs on the CPU only: --device cpu, or --backend torch")
        import_extra(_MODULES[backend])
    if sizes_vary:  # then they are bounds; what backends are compared on has a size that the network takes
        divisor = detector.size_divisor
        sizes = [(height + -height % divisor, width + -width % divisor) for height, width in sizes]
    # Beside several batches in flight a second stage would have no processor left.
    throughput = workload == "many" and not has_second_stage(detector)
    builder = BackendBuilder(detector, metadata, sizes, device, throughput, compile)
    chooser = _Chooser(builder, precision, takes_time=workload != "few")
    if backend in _MODULES:
        return chooser.given(backend)
    if backend == "torch" or device.type != "cpu" or sizes_vary:
        return chooser.torch()
    return chooser.fastest()


def _choose_exported(
    detector: ExportedDetector, device: torch.device, backend: str, precision: str, *, throughput: bool
) -> Choice:
    if backend not in ("auto", detector.kind):
        raise UserError(f"{detector.path}: is a graph for the {detector.kind} backend, not for {backend}")
    if device.type != "cpu":
        raise UserError(f"{detector.path}: is run on the CPU only: --device cpu")
    fixed = detector.kind == "onnx" or "int8" in (detector.precision, precision)
    if fixed and precision not in ("auto", detector.precision):
        raise UserError(f"{detector.path}: holds {detector.precision}, not {precision}: export it again for that")
    chosen = detector.backend(None if precision == "auto" else precision, throughput=throughput)
    return Choice(chosen, f"backend: {_shown(chosen)} (the weights are a graph for it)")


@dataclass(frozen=True, order=True)
class _Candidate:
    """A backend that finds what PyTorch finds; the faster, the less."""

    milliseconds: float
    name: str
    precision: str


@dataclass(frozen=True)
class _Chooser:
    """Decides by what is known of each backend, and finds it out where there is time."""

    builder: BackendBuilder
    precision: str
    takes_time: bool

    def given(self, name: str) -> Choice:
        """As asked; of its precisions the first that passes."""
        precisions = self._precisions(name)
        for precision in precisions:
            verdict = self._find_out(name, precision)
            if verdict.passed:
                break
        warning = "" if verdict.passed else ": NOT what PyTorch finds"
        built = self.builder.build(name, precision)
        return Choice(built, f"backend: {_shown(built)} (as asked; {verdict.parity}{warning})")

    def torch(self, hint: str = "") -> Choice:
        """PyTorch, in the first precision that is known to pass or was asked for."""
        built = self.builder.build("torch", self._torch_precision())
        return Choice(built, f"backend: {_shown(built)} on {self.builder.device}{hint}")

    def fastest(self) -> Choice:
        """Of all that are worth a try and pass."""
        installed = [name for name, module in _MODULES.items() if is_installed(module)]
        candidates: list[_Candidate] = []
        failures = []
        for name in installed:
            try:
                candidates += self._candidates(name, beside=candidates)
            except Exception as error:  # converters, and the disks that graphs are kept on, fail in many ways
                failures.append(_reason(error))
        if candidates:
            try:
                return self._fastest_of(candidates)
            except Exception as error:  # what is known of a graph does not tell whether it can be made again
                failures.append(_reason(error))
        if failures:
            return self.torch(f"; no graph could be made: {failures[0]}")
        if "openvino" not in installed:
            return self.torch("; pip install '.[openvino]' would be faster here")
        return self.torch("" if self.takes_time else "; a video would make a faster graph, which is then kept")

    def _candidates(self, name: str, beside: Sequence[_Candidate]) -> list[_Candidate]:
        """The backend in each precision that passes, if there is time to find out or it is known."""
        if not (self.takes_time or self.builder.is_ready(name)):
            return []
        # ONNX Runtime has fp32 alone, which is not worth its conversion beside something shorter that passes.
        precisions = [*(other.precision for other in beside), self._torch_precision()] if name == "onnx" else []
        if any(precision != "fp32" for precision in precisions):
            return []
        verdicts = {precision: self._verdict(name, precision) for precision in self._precisions(name)}
        return [
            _Candidate(verdict.milliseconds, name, precision)
            for precision, verdict in verdicts.items()
            if verdict is not None and verdict.passed
        ]

    def _fastest_of(self, candidates: Sequence[_Candidate]) -> Choice:
        """Of these and PyTorch."""
        own = self._verdict("torch", self._torch_precision())
        best = min(candidates)
        if own is not None and own.milliseconds <= best.milliseconds:
            return self.torch()
        built = self.builder.build(best.name, best.precision)
        shown = f"{best.milliseconds:.1f} ms per picture"
        beside = f", PyTorch {own.milliseconds:.1f} ms" if own is not None else ""
        return Choice(built, f"backend: {_shown(built)} (the fastest here: {shown}{beside})")

    def _precisions(self, name: str) -> list[str]:
        """What to try, one after the other."""
        if name == "onnx":
            if self.precision not in ("auto", "fp32"):
                raise UserError(f"the onnx backend computes in fp32 only, not {self.precision}: --backend openvino can")
            return ["fp32"]
        if self.precision != "auto":
            return [self.precision]
        return ["bf16", "fp32"] if is_fast_at_bf16(self.builder.device) else ["fp32"]

    def _torch_precision(self) -> str:
        """As asked; else the fastest that passes, and fp32 where nothing is known."""
        if self.precision != "auto":
            return self.precision
        verdicts = {name: self._verdict("torch", name) for name in self._precisions("torch")}
        passed = {name: verdict.milliseconds for name, verdict in verdicts.items() if verdict and verdict.passed}
        return min(passed, key=lambda name: passed[name]) if len(passed) == len(verdicts) > 1 else "fp32"

    def _verdict(self, name: str, precision: str) -> Verdict | None:
        """What is known, or found out if there is time."""
        return self._find_out(name, precision) if self.takes_time else self._known(name, precision)

    def _known(self, name: str, precision: str) -> Verdict | None:
        tree = cache.read_verdict(self.builder.verdict_key(name, precision))
        try:
            return None if tree is None else Verdict(**tree)
        except TypeError:  # written by another version
            return None

    def _find_out(self, name: str, precision: str) -> Verdict:
        """Compare with PyTorch in full precision, and measure."""
        if (known := self._known(name, precision)) is not None:
            return known
        built, reference = self.builder.build(name, precision), self.builder.build("torch", "fp32")
        pictures, tolerance = check_pictures(self.builder.sizes[0]), TOLERANCES[precision]
        try:
            parity = compare_backends(self.builder.detector, reference, built, pictures, tolerance)
        except ValueError:  # numbers that are none: the run itself says what to do about them
            return Verdict(False, math.inf, "its output is not a number")
        verdict = Verdict(parity.holds(tolerance), _milliseconds(built, pictures[0]), str(parity))
        cache.write_verdict(self.builder.verdict_key(name, precision), asdict(verdict))
        return verdict


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shown(backend: Backend) -> str:
    return f"{backend.name} {backend.precision}"


def _milliseconds(backend: Backend, picture: Tensor) -> float:
    """Of one picture, the median of a few rounds."""
    return 1000 * median(seconds_per_pass(backend, picture, 2 * backend.slots) for _ in range(_ROUNDS))
