"""A benchmark's JSON as Markdown tables, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

Tree = Mapping[str, Any]

IDENTITY = ("weights", "backend", "precision", "input", "batch")


def markdown(report: Tree) -> str:
    """Format all tables of a report."""
    parts = [describe(report)]
    if rows := report.get("inference"):
        parts += [speed_table(rows), stage_table(rows)]
    if rows := report.get("hot_path"):
        parts.append(hot_path_table(rows))
    if rows := report.get("training"):
        parts.append(training_table(rows))
    if rows := report.get("start"):
        parts.append(start_table(rows))
    if rows := report.get("first_frame"):
        parts.append(first_frame_table(rows))
    if rows := report.get("programs"):
        parts.append(programs_table(rows))
    if rows := report.get("throughput"):
        parts.append(throughput_table(rows))
    return "\n\n".join(parts)


def describe(report: Tree) -> str:
    """Format date, machine and versions."""
    machine, versions = report["machine"], report["versions"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return (
        f"{report['time']}: {machine['cores']} cores of {machine['cpu']} ({' '.join(machine['flags'])}), "
        f"{machine['memory_gb']:.0f} GB{gpu}, load {machine['load']} at the start; {libraries}"
    )


def speed_table(rows: Sequence[Tree]) -> str:
    """Format one line per candidate: network alone, end to end, and AP if measured."""
    with_ap = any(row["ap"] for row in rows)
    header = [*_identity_names(rows), "in flight", "GFLOP", "network ms", "FPS (best)", "end to end FPS (best)"]
    header += ["of network", "of peak", "MB"] + (["AP", "AP50"] if with_ap else [])
    lines = []
    for row in rows:
        line = [*_identity(row, rows), str(row["slots"]), _number(row["gflop"], 1), _number(row["network_ms"], 2)]
        line += [_with_best(row, name) for name in ("network_fps", "end_to_end_fps")]
        line += [_percent(row["share_of_network"]), _percent(row["share_of_peak"])]
        line.append(_number(row["peak_memory"].get("gpu_mb", row["peak_memory"]["process_mb"]), 0))
        if with_ap:
            line += [_number(row["ap"].get(name), 3) for name in ("AP", "AP50")]
        lines.append(line)
    return table(header, lines)


def stage_table(rows: Sequence[Tree]) -> str:
    """Milliseconds of an image in each stage: p50, p95 and p99."""
    stages = list(rows[0]["stages"])
    header = [*_identity_names(rows), *(f"{name} ms" for name in stages)]
    lines = [[*_identity(row, rows), *(_percentiles(row["stages"][name]) for name in stages)] for row in rows]
    if any(row.get("proposals") for row in rows):
        header.append("proposals")
        lines = [[*line, _number(row.get("proposals"), 0)] for line, row in zip(lines, rows, strict=True)]
    return "p50 / p95 / p99 of each stage, for one image\n\n" + table(header, lines)


def hot_path_table(rows: Sequence[Tree]) -> str:
    """Format the milliseconds of each step."""
    lines = [
        [row["what"], row["on"], _number(row["p50_ms"], 3), _number(row["best_ms"], 3), str(row["count"])]
        for row in rows
    ]
    return table(["hot path", "on", "median ms", "best ms", "calls"], lines)


def training_table(rows: Sequence[Tree]) -> str:
    """Images per second of each part of training."""
    parts = list(rows[0]["images_per_second"])
    header = ["model", "data", "precision", "input", "batch", *parts, "training / network", "training / step"]
    header += ["MB", "worker MB", "loss"]
    lines = []
    for row in rows:
        height, width = row["img_size"]
        line = [row["model"], row["data"], row["precision"], f"{height}x{width}", str(row["batch_size"])]
        best = row["best_images_per_second"]
        line += [f"{row['images_per_second'][name]:.1f} ({best[name]:.1f})" for name in parts]
        line += [_percent(row["share_of_network"]), _percent(row["loader_share"])]
        line += [_number(row["peak_memory"].get(name), 0) for name in ("process_mb", "worker_mb")]
        line.append(
            f"{row['first_loss']:.2f} -> {row['last_loss']:.2f}" + ("" if row["losses_finite"] else " NOT FINITE")
        )
        lines.append(line)
    return "images per second, median (best)\n\n" + table(header, lines)


def start_table(rows: Sequence[Tree]) -> str:
    """One line per candidate, each figure with its share of the first one's."""
    keys = {"cpu_s": "CPU s", "wall_s": "wall s", "peak_mb": "peak MB", "import_s": "import CPU s"}
    keys |= {"installed_mb": "installed MB"}

    def cell(row: Tree, key: str) -> str:
        value, first = row[key], rows[0][key]
        if value is None:
            return "-"
        return f"{value:g}" if row is rows[0] or not first else f"{value:g} ({value / first:.2f})"

    return table(["one image", *keys.values()], [[row["name"], *(cell(row, key) for key in keys)] for row in rows])


def first_frame_table(rows: Sequence[Tree]) -> str:
    """One line per candidate and source: seconds with an empty cache, with a full one, and their ratio."""
    header = ["program", "source", "empty cache, s", "full cache, s", "ratio"]
    lines = []
    for row in rows:
        seconds = [row["cold_s"], row["warm_s"], row["cold_s"] / row["warm_s"]]
        lines.append([row["name"], row["source"], *(_number(value, 2) for value in seconds)])
    return "from the start of the program to the first detections, medians\n\n" + table(header, lines)


def programs_table(rows: Sequence[Tree]) -> str:
    """One line per program."""
    columns = {"AP": ("AP", 3), "AP50": ("AP50", 3), "image_ms": ("image, ms", 1), "image_cpu_ms": ("CPU ms", 1)}
    columns |= {"video_fps": ("video, FPS", 1), "video_cpu_ms": ("frame, CPU ms", 1), "start_s": ("start, s", 2)}
    columns |= {"start_cpu_s": ("start, CPU s", 2), "peak_mb": ("peak MB", 0), "installed_mb": ("installed MB", 0)}
    lines = [[row["name"], *(_number(row[key], digits) for key, (_, digits) in columns.items())] for row in rows]
    head = f"{rows[0]['images']} images one after the other, and a video of {rows[0]['frames']} frames, medians"
    return f"{head}\n\n" + table(["program", *(name for name, _ in columns.values())], lines)


def throughput_table(rows: Sequence[Tree]) -> str:
    """One line per source, weights and clone."""
    header = ["source", "weights", "program", "images", "network FPS", "end to end FPS", "of network", "CPU ms", "MB"]
    lines = []
    for row in rows:
        line = [*(PurePath(row[key]).name for key in ("source", "weights")), row["program"], f"{row['images']:,}"]
        line += [_number(row[key], 1) for key in ("network_fps", "end_to_end_fps")]
        line += [_percent(row["share_of_network"]), _number(row["cpu_ms_per_image"], 1), _number(row["peak_mb"], 0)]
        lines.append(line)
    return "images per second of whole runs (--media none), medians\n\n" + table(header, lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned in plain text too."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * max(3, width) for width in widths]
    return "\n".join(
        "| " + " | ".join(text.ljust(max(3, width)) for text, width in zip(row, widths, strict=True)) + " |"
        for row in [header, rule, *rows]
    )


def workload_names(rows: Sequence[Tree]) -> list[str]:
    """["workload"] where rows differ in it, or else none could be told from another; elsewhere nothing."""
    return ["workload"] if len({row.get("workload") for row in rows}) > 1 else []


def _identity_names(rows: Sequence[Tree]) -> list[str]:
    return [*IDENTITY, *workload_names(rows)]


def _identity(row: Tree, rows: Sequence[Tree]) -> list[str]:
    height, width = row["img_size"]
    cells = {**row, "input": f"{height}x{width}", "batch": row["batch_size"]}
    return [str(cells.get(name, "")) for name in _identity_names(rows)]


def _percentiles(timing: Tree) -> str:
    return " / ".join(_number(timing[name], 2) for name in ("p50_ms", "p95_ms", "p99_ms"))


def _with_best(row: Tree, name: str) -> str:
    return "" if row[name] is None else f"{row[name]:.1f} ({row[f'best_{name}']:.1f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
