"""``train.py --dry-run``: everything that can be known before hours of training, and no training."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from yolofpn.config import YOLOHeadConfig
from yolofpn.data.anchor_clusters import anchor_fit, network_box_sizes
from yolofpn.data.data_check import check_data
from yolofpn.files import write_atomically
from yolofpn.models.layer_summary import format_rows, layer_rows
from yolofpn.text import counted
from yolofpn.training.engine import batches_per_step
from yolofpn.training.memory import estimate_memory
from yolofpn.training.setup import Setup
from yolofpn.training.splits import repeat_lines, training_sizes

REPORT = "dry_run.txt"


def dry_run(setup: Setup, run_dir: Path) -> None:
    """Print the report, and write it into the run's folder.

    Raises:
        UserError: the data set cannot be read, or the folder not be written.
    """
    lines = [*describe_model(setup), "", *describe_data(setup), "", *describe_steps(setup)]
    for line in lines:
        setup.say(line)
    write_atomically(run_dir / REPORT, ("\n".join(lines) + "\n").encode())
    setup.say(f"dry run: nothing was trained; {run_dir} holds this report, the cfg and the first batch's image")


def describe_data(setup: Setup) -> list[str]:
    """What the data check finds; every image is read."""
    data = setup.splits.data
    report = check_data(
        data.source,
        root=Path(data.root) if data.root else None,
        voc_corners=data.voc_corners,
        progress=sys.stderr.isatty(),
    )
    return ["data check", *replace(report, notes=()).lines()]


def describe_model(setup: Setup) -> list[str]:
    """The layer table, how the anchors fit, and the memory that a step needs."""
    model, config = setup.model, setup.config
    lines = format_rows(layer_rows(model, model.dense, config.input.size)).splitlines()
    if isinstance(config.model.head, YOLOHeadConfig):
        boxes = network_box_sizes(setup.splits.train, config.input.size)
        anchors = np.array([size for level in config.model.head.anchors for size in level], dtype=np.float64)
        if len(boxes):
            lines += ["", f"anchors: {anchor_fit(boxes, anchors)}"]
    largest = max(training_sizes(config), key=lambda size: size[0] * size[1])
    return [*lines, str(estimate_memory(model, config.train, largest, setup.device, setup.dtype))]


def describe_steps(setup: Setup) -> list[str]:
    """Repeats, batches and optimiser steps of an epoch."""
    settings, ranks, train = setup.config.train, setup.ranks, setup.splits.train
    batches = setup.loader.sampler.batches_per_epoch
    per_step = batches_per_step(settings, ranks.world_size)
    each = f" on each of {ranks.world_size} processes" if ranks.world_size > 1 else ""
    return [
        *repeat_lines(setup.config, train),
        f"{counted(len(train), 'image')}: {counted(batches, 'batch')} of {settings.batch_size}{each}, "
        f"{counted(-(-batches // per_step), 'step')} per epoch, {counted(settings.epochs, 'epoch')}",
    ]
