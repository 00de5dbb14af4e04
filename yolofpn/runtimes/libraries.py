"""The libraries that run graphs: extras, so they may be missing, and are imported only where they are used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from yolofpn.errors import UserError, install_hint


def import_extra(module: str, extra: str) -> Any:  # noqa: ANN401
    """The ``module`` that the extra installs.

    Raises:
        UserError: it is not installed; says how to.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(f"{module} is not installed: {install_hint(extra)}") from None


def versions(*packages: str) -> str:
    """'torch 2.13.0, onnx none': of packages; a library may come in one of another name, such as onnxruntime-gpu."""
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
