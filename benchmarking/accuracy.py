"""AP of the very candidates whose speed is measured, and a plot of the one against the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarking.tables import workload_names
from yolofpn.data.class_names import match_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluator import EVALUATION_LIMITS
from yolofpn.evaluation.run_detector import RunSettings, run_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.runtimes import RUNTIMES

DPI = 130
MARKERS = dict(zip(("torch", "torch compiled", *(runtime.key for runtime in RUNTIMES)), "ovs^Dph*", strict=False))
LINES = {"bf16": "--", "fp16": "-.", "int8": ":"}


def measure_ap(predictor: Predictor, dataset: DetectionDataset, batch_size: int) -> dict[str, float]:
    """AP and AP50 on a data set, as ``evaluate.py`` measures them.

    Raises:
        UserError: if it has no class of the detector's.
    """
    match = match_classes(predictor.names, predictor.metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError("no class in common with the data set")
    judged = copy.copy(predictor)  # the same network and backend, with the limits of a measurement
    judged.limits = replace(
        predictor.limits,
        nms_thresh=EVALUATION_LIMITS.nms_thresh,
        detections_per_img=EVALUATION_LIMITS.detections_per_img,
    )
    found = run_detector(judged, replace(dataset, depth=predictor.depth), match, RunSettings(batch_size, None, 0.001))
    values = found.metrics.compute().values
    return {name: values[name] for name in ("AP", "AP50")}


def plot_ap(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw AP over the network's milliseconds for an image (median) for all rows that have one.

    A colour for each weights file, a mark for each backend; what differs in size or batch alone is joined by a line.

    Raises:
        UserError: if the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(10, 6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    colours: dict[str, str] = {}
    for (weights, backend, precision, *workload), own in _curves(rows).items():
        points = sorted((float(row["network_ms"]), float(row["ap"]["AP"]), _size(row)) for row in own)
        axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            color=colours.setdefault(weights, f"C{len(colours)}"),
            marker=MARKERS.get(backend, "x"),
            markerfacecolor=None if precision == "fp32" else "white",  # of a single point no line shows
            linestyle=LINES.get(precision, "-"),
            linewidth=1,
            markersize=7,
            label=", ".join([weights, f"{backend} {precision}", *workload]),
        )
        for time, value, size in points:
            axes.annotate(size, (time, value), textcoords="offset points", xytext=(0, 7), ha="center", fontsize=8)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set(xlabel="ms per image, network alone (median)", ylabel="AP", title="AP against time")
    axes.margins(0.1)
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}): choose another place") from None


def _curves(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Rows that differ in size and batch alone."""
    named = ["weights", "backend", "precision", *workload_names(rows)]
    curves: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["ap"]:
            curves.setdefault(tuple(row[name] for name in named), []).append(row)
    return curves


def _size(row: dict[str, Any]) -> str:
    height, width = row["img_size"]
    size = str(height) if height == width else f"{height}x{width}"
    return size if row["batch_size"] == 1 else f"{size}, batch {row['batch_size']}"
