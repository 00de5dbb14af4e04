"""What runs the dense part of a detector: PyTorch, or a graph in one of the runtimes below.

A new runtime is a class as ``yolofpn.runtimes.runtime.Runtime`` describes it, and a line in ``RUNTIMES``;
docs/extending.md has an example. Their files import nothing heavy at their top, because ``--help`` lists them.
"""

from __future__ import annotations

from pathlib import Path

from yolofpn.extras import is_installed
from yolofpn.runtimes.litert import LiteRT
from yolofpn.runtimes.ncnn import NCNN
from yolofpn.runtimes.onnx import ONNX
from yolofpn.runtimes.openvino import OpenVINO
from yolofpn.runtimes.runtime import Runtime

RUNTIMES: tuple[type[Runtime], ...] = (OpenVINO, ONNX, NCNN, LiteRT)
"""In the order of preference: by default the first that is installed and knows batches runs a detector on the CPU."""


def runtime_named(key: str) -> type[Runtime]:
    """The runtime that ``--backend`` calls ``key``.

    Raises:
        KeyError: there is none.
    """
    return {known.key: known for known in RUNTIMES}[key]


def runtimes_of(path: Path) -> list[type[Runtime]]:
    """The installed runtimes that open the graph at ``path``, in the order of preference."""
    return [known for known in RUNTIMES if known.can_open(path) and is_installed(known.module)]


def runtime_of(path: Path) -> type[Runtime] | None:
    """The runtime whose graphs have the suffix of ``path``."""
    return {known.suffix: known for known in RUNTIMES}.get(path.suffix)
