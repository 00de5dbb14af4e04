"""Plots of metrics over the epochs and of class counts, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolofpn.data.dataset import DetectionDataset
from yolofpn.files import write_atomically
from yolofpn.training.logger import Row

DPI = 120
_MOST_BARS = 80  # of more classes the most frequent ones are shown


def plot_losses(path: Path, rows: Sequence[Row]) -> None:
    """Draw every loss over the epochs, on a logarithmic axis.

    Args:
        path: the PNG to write.
        rows: of metrics.csv.
    """
    names = [name for name in rows[0] if name.startswith("loss")] if rows else []
    _plot_over_epochs(path, rows, names, "Losses", "loss, averaged over the epoch's batches", log=True)


def plot_average_precision(path: Path, rows: Sequence[Row]) -> None:
    """Draw AP and AP50 over the epochs that were evaluated.

    Args:
        path: the PNG to write.
        rows: of metrics.csv.
    """
    _plot_over_epochs(path, rows, ["AP", "AP50"], "Average precision on the validation split", "AP")


def plot_labels(path: Path, splits: dict[str, DetectionDataset]) -> None:
    """Draw how many boxes each class has in each split.

    Args:
        path: the PNG to write.
        splits: data sets of the same classes, by name.
    """
    names = next(iter(splits.values())).names
    counts = {
        split: np.bincount(dataset.labels[~dataset.ignore], minlength=len(names)) for split, dataset in splits.items()
    }
    order = np.argsort(-sum(counts.values(), np.zeros(len(names))), kind="stable")[:_MOST_BARS]
    figure = Figure(figsize=(8, 1.5 + 0.25 * len(order) * len(splits)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(splits)
    for place, (split, numbers) in enumerate(counts.items()):
        bars = axes.barh(np.arange(len(order)) + place * height, numbers[order], height, label=split)
        axes.bar_label(bars, padding=2, fontsize=7)
    axes.set_yticks(np.arange(len(order)) + 0.4 - height / 2, [names[label] for label in order])
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    left_out = f" (the {len(order)} most frequent of {len(names)})" if len(order) < len(names) else ""
    axes.set(title=f"Boxes of each class{left_out}", xlabel="boxes, regions to ignore not counted")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    _save(figure, path)


def _plot_over_epochs(
    path: Path, rows: Sequence[Row], names: Sequence[str], title: str, label: str, *, log: bool = False
) -> None:
    figure = Figure(figsize=(9, 6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 50 else "")
    if log:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.grid(color="0.92")
    if axes.has_data():
        axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
