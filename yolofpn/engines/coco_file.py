"""``detections.coco.json`` from the part files of a run."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from yolofpn.addresses import local_path
from yolofpn.config import Metadata
from yolofpn.engines.earlier_run import part_names
from yolofpn.engines.job import Job
from yolofpn.engines.part_files import ParquetPart, stored_detections
from yolofpn.engines.storage import join, read_bytes, write_file
from yolofpn.engines.unit_detector import LARGEST_PART
from yolofpn.sinks.coco_results import CocoSink
from yolofpn.sources.kinds import Source
from yolofpn.structures import Frame


def write_coco(job: Job, metadata: Metadata) -> None:
    """Write the COCO results of all images without errors, in their order, and ``images.json``.

    Raises:
        UserError: a part file cannot be read, or the files cannot be written.
    """
    folder = local_path(job.output)
    if folder is not None:
        _write(job, metadata, folder)
        return
    with tempfile.TemporaryDirectory() as made:
        _write(job, metadata, Path(made))
        for path in sorted(Path(made).iterdir()):
            write_file(join(job.output, path.name), path)


def _write(job: Job, metadata: Metadata, folder: Path) -> None:
    with closing(CocoSink(folder)) as sink:
        for name in part_names(job):
            content = read_bytes(join(job.output, name + ParquetPart.suffix), LARGEST_PART)
            for row in stored_detections(content, metadata.names, metadata.category_ids):
                pixels = np.broadcast_to(np.zeros(3, np.uint8), (*row.size, 3))  # the size alone is asked for
                source = Source(row.image, "image", Path(row.image.rpartition("/")[2]), lambda: iter(()))
                sink.write(source, Frame(pixels, row.image), row.detections)
