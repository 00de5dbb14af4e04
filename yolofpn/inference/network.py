"""A detector ready to run: what runs its dense part, and what turns the maps into detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.inference.choice import Choice, choose_exported
from yolofpn.inference.options import PredictorOptions
from yolofpn.runtimes.exported import ExportedDetector

if TYPE_CHECKING:
    import torch


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
