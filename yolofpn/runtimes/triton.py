"""The configuration of a model of NVIDIA's Triton Inference Server, which runs its ONNX file.

A model is a folder of Triton's model repository: ``config.pbtxt``, ``labels.txt`` and ``1/model.onnx`` (version 1).
The fields are those of ``model_config.proto`` of Triton's common repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolofpn.errors import UserError
from yolofpn.runtimes.onnx import ONNX, open_session

KEY, GRAPH = "triton", ONNX.key
CONFIG, MODEL, LABELS = "config.pbtxt", Path("1") / "model.onnx", "labels.txt"
DEFAULT_BATCH = 8
QUEUE_DELAY = 2000  # microseconds that a request waits for others to share its batch
QUEUE_SIZE = 64  # requests; more are refused at once instead of waiting
QUEUE_SECONDS = 10  # after which a waiting request is refused
_TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


def check_name(name: str) -> None:
    """Whether a folder can be a model of Triton, which addresses it by the folder's name in URLs.

    Raises:
        UserError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name}: a model's folder is named with letters, digits, '_', '-' and '.' for --format {KEY}")


def model_config(name: str, model: Path, max_batch: int | None) -> str:
    """The text of ``config.pbtxt``.

    Args:
        name: of the model, which is that of its folder.
        model: the ONNX file, whose inputs and outputs are declared.
        max_batch: images that the server puts into one batch at most; None: the graph takes one request as it is.

    Raises:
        UserError: ONNX Runtime is not installed.
    """
    session = open_session(model, only_read=True)
    lines = [
        f"name: {_quoted(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {max_batch or 0}",
        *_ports("input", session.get_inputs(), max_batch),
        *_ports("output", session.get_outputs(), max_batch),
    ]
    if max_batch is not None:
        lines += [
            "dynamic_batching {",
            f"  max_queue_delay_microseconds: {QUEUE_DELAY}",
            "  default_queue_policy {",
            f"    max_queue_size: {QUEUE_SIZE}",
            "    timeout_action: REJECT",
            f"    default_timeout_microseconds: {QUEUE_SECONDS * 1_000_000}",
            "  }",
            "}",
        ]
    lines += ["parameters {", '  key: "labels"', f"  value {{ string_value: {_quoted(LABELS)} }}", "}"]
    return "\n".join(lines) + "\n"


def _ports(kind: str, ports: Sequence[Any], max_batch: int | None) -> list[str]:
    """Inputs or outputs; with batches their first dimension is left out, as Triton adds it."""
    lines = []
    for port in ports:
        sizes = port.shape if max_batch is None else port.shape[1:]
        dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in sizes)
        declared = [f"  name: {_quoted(port.name)}", f"  data_type: {_TYPES[port.type]}", f"  dims: [ {dims} ]"]
        lines += [f"{kind} {{", *declared, "}"]
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text)
