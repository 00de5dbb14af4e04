"""Curves and the confusion matrix as PNG files.

Figures are made without pyplot: no display is needed and no global state is left behind.

Shapes: C classes, R = 101 recall levels, G score thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolofpn.evaluation.coco import RECALL_LEVELS
from yolofpn.evaluation.table import Bools, Floats, Ints
from yolofpn.files import replace_file

MOST_NAMED_CLASSES = 12  # beyond, a legend hides more than it says
MOST_NUMBERED_CLASSES = 30  # beyond, the numbers in the cells of a confusion matrix cannot be read
DPI = 120


def plot_precision_recall(path: Path, precision: Floats, names: Sequence[str]) -> None:
    """Draw the precision-recall curve of each class and their mean, at IoU 0.5.

    Args:
        path: the PNG to write.
        precision: [C, R] as ``Metrics.precision`` holds it; classes of -1 have no objects and no curve.
        names: C class names.
    """
    has_objects = precision.min(axis=1, initial=1.0) >= 0

    def describe(name: str, curve: Floats) -> str:
        return f"{name} {curve.mean():.3f}"

    figure, axes = _figure("Precision and recall at IoU 0.5 (AP50)", "recall", "precision")
    _draw_curves(axes, RECALL_LEVELS, precision[has_objects], _select(names, has_objects), describe)
    _save(figure, path)


def plot_f1(path: Path, thresholds: Floats, f1: Floats, has_objects: Bools, names: Sequence[str]) -> None:
    """Draw F1 over the score threshold for each class and its mean over the classes.

    Args:
        path: the PNG to write.
        thresholds: [G].
        f1: [C, G] as ``f1_over_thresholds`` gives it.
        has_objects: [C]; classes without objects have no curve.
        names: C class names.
    """

    def describe(name: str, curve: Floats) -> str:
        return f"{name} {curve.max():.2f} at {thresholds[curve.argmax()]:.2f}"

    figure, axes = _figure("F1 over the score threshold, at IoU 0.5", "score threshold", "F1")
    _draw_curves(axes, thresholds, f1[has_objects], _select(names, has_objects), describe)
    _save(figure, path)


def plot_confusion(path: Path, matrix: Ints, names: Sequence[str]) -> None:
    """Draw a confusion matrix: numbers are counts, colour is the share of the row's objects.

    The background row has no objects: there the colour is the share of the column's detections that are false.

    Args:
        path: the PNG to write.
        matrix: [C + 1, C + 1], row = true class, column = detected class, background last.
        names: C class names.
    """
    size = len(matrix)
    side = min(max(4.0 + 0.45 * size, 5.5), 20.0)
    figure = Figure(figsize=(side + 1, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    share[-1] = matrix[-1] / np.maximum(matrix.sum(axis=0), 1)
    image = axes.imshow(np.ma.masked_equal(share, 0), cmap="Blues", vmin=0, vmax=1)
    label = "share of the true class (background: of the detected class)"
    figure.colorbar(image, ax=axes, shrink=0.8, aspect=40, label=label)
    font = 9 if size <= MOST_NUMBERED_CLASSES else 7
    axes.set_xticks(range(size), [*names, "background"], rotation=90, fontsize=font)
    axes.set_yticks(range(size), [*names, "background"], fontsize=font)
    axes.set_xlabel("detected")
    axes.set_ylabel("true")
    axes.set_title("Confusion matrix")
    axes.set_xticks(np.arange(1, size) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(which="minor", color="0.92", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    if size <= MOST_NUMBERED_CLASSES + 1:
        _write_counts(axes, matrix, share)
    _save(figure, path)


def _write_counts(axes: Axes, matrix: Ints, share: Floats) -> None:
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlim=(0, 1), ylim=(0, 1.02), xlabel=x_label, ylabel=y_label)
    axes.grid(color="0.92")
    return figure, axes


def _draw_curves(
    axes: Axes, x: Floats, curves: Floats, names: Sequence[str], describe: Callable[[str, Floats], str]
) -> None:
    """One curve per class, coloured and named where they are few, and their mean, bold."""
    if not len(curves):
        axes.text(0.5, 0.5, "no objects", ha="center", va="center")
        return
    few = len(curves) <= MOST_NAMED_CLASSES
    colours = matplotlib.colormaps["tab10" if len(curves) <= 10 else "tab20"]
    for place, (curve, name) in enumerate(zip(curves, names, strict=True)):
        if few:
            axes.plot(x, curve, label=describe(name, curve), color=colours(place), linewidth=1.5)
        else:
            axes.plot(x, curve, color="0.75", linewidth=0.7)
    mean = curves.mean(axis=0)
    axes.plot(x, mean, label=describe("all classes", mean), color="black", linewidth=2.5)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)


def _select(names: Sequence[str], keep: Bools) -> list[str]:
    return [name for name, kept in zip(names, keep, strict=True) if kept]


def _save(figure: Figure, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    replace_file(path, buffer.getvalue())
