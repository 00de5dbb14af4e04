"""The libraries that run graphs: extras, so they may be missing, and are imported only where they are used."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from yolofpn.errors import UserError

# What is imported, and what `pip install .[EXTRA]` calls it.
EXTRAS = {"openvino": "openvino", "nncf": "int8", "onnxruntime": "onnx", "onnx": "onnx", "onnxscript": "onnx"}


def is_installed(module: str) -> bool:
    """Whether ``module`` can be imported; it is not imported."""
    return find_spec(module) is not None


def import_extra(module: str) -> Any:  # noqa: ANN401
    """The module of an extra.

    Raises:
        UserError: it is not installed; says how to.
    """
    if module in ("openvino", "nncf"):
        # Both report their use over the network; without this module they take their own empty stand-in.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"{module} is not installed: pip install '.[{EXTRAS[module]}]'") from None


def versions(*packages: str) -> str:
    """'torch 2.13.0, onnx none': of packages; a library may come in one of another name, such as onnxruntime-gpu."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
