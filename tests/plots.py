"""Plots that nobody looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from PIL import Image as PillowImage


class BlankAxes:
    """Takes whatever is drawn."""

    def __getattr__(self, _: str) -> BlankAxes:
        return self

    def __call__(self, *_: object, **__: object) -> BlankAxes:
        return self


def save_blank(figure: Figure, file: Any, **_: object) -> None:
    PillowImage.new("RGB", (8, 8)).save(file, "png")


# In the place of Figure's own: axes and curves take longer to make and to draw than a small network to train.
BLANK: dict[str, Callable[..., Any]] = {
    "add_subplot": lambda *_, **__: BlankAxes(),
    "colorbar": lambda *_, **__: None,
    "savefig": save_blank,
}
DRAWN: dict[str, Callable[..., Any]] = {name: getattr(Figure, name) for name in BLANK}
