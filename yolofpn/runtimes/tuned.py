"""Saved choices of ``python -m yolofpn tune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from yolofpn.config import StrictModel
from yolofpn.errors import UserError
from yolofpn.files import cache_folder, replace_file


class Tuned(StrictModel):
    """A choice.

    Attributes:
        backend: that runs the network.
        precision: of its arithmetic.
        libraries: the versions that it was measured with.
        graphs: names in the cache of graphs that it needs.
        report: the line of the table that it was chosen by.
    """

    backend: str
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    libraries: str
    graphs: tuple[str, ...] = ()
    report: str = ""


def tuned_folder() -> Path:
    """Return the folder of saved choices."""
    return cache_folder() / "tuned"


def read_tuned(name: str) -> Tuned | None:
    """The choice of that name; None if there is none, or nothing readable."""
    try:
        return Tuned.model_validate(json.loads((tuned_folder() / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def write_tuned(name: str, choice: Tuned | None) -> Path:
    """Save a choice; None deletes it.

    Raises:
        UserError: the folder cannot be written.
    """
    path = tuned_folder() / f"{name}.json"
    try:
        if choice is None:
            path.unlink(missing_ok=True)
            return path
        replace_file(path, choice.model_dump_json().encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): name another folder in YOLOFPN_CACHE") from None
    return path


def pinned_graphs() -> set[str]:
    """Names of the graphs that some choice needs."""
    try:
        choices = [read_tuned(path.stem) for path in tuned_folder().glob("*.json")]
    except OSError:
        return set()
    return {name for choice in choices if choice is not None for name in choice.graphs}
