"""Detections as a data set of YOLO text files, for labelling and training."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar

from yolofpn.files import write_atomically
from yolofpn.sinks.prelabels import FlatImages
from yolofpn.sinks.yolo_results import yolo_lines
from yolofpn.text import as_yaml, one_line_names

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class DatasetSink:
    """``dataset/``: images and labels that CVAT, Label Studio and training read.

    ``data.yaml`` for CVAT (as "Ultralytics YOLO") and for training stands at its root; ``train/`` with ``images/``,
    ``labels/`` and ``classes.txt`` is what Label Studio's converter imports. That reads no folders within
    ``images/``, so an image ``a/b/dog.jpg`` becomes ``a__b__dog.jpg``.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "labels"
    help: ClassVar[str] = "dataset/, images and YOLO labels for labelling tools and training"
    folder: ClassVar[str | None] = "dataset"

    def __init__(self, output: Path) -> None:
        self._root = output / "dataset"
        self._images = FlatImages(self._root / "train" / "images")
        self._classes: tuple[str, ...] | None = None

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write image and labels of one frame."""
        self._write_classes(detections)
        stem = PurePath(self._images.write(source, frame)).stem
        labels = yolo_lines(detections, frame.size, scores=False)
        write_atomically(self._root / "train" / "labels" / f"{stem}.txt", labels.encode())

    def close(self) -> None:
        """Do nothing: every file is already complete."""

    def _write_classes(self, detections: Detections) -> None:
        """``data.yaml`` and ``classes.txt``; without names classes are called by their number."""
        classes = detections.names
        if not classes:
            known = len(self._classes or ())
            classes = tuple(str(label) for label in range(max([known - 1, *detections.labels.tolist()]) + 1))
        if classes == self._classes:
            return
        one_line = one_line_names(classes)
        entries = "".join(f"  {label}: {as_yaml(name)}\n" for label, name in enumerate(one_line))
        names = f"names:\n{entries}" if entries else "names: {}\n"
        yaml = f"path: .\ntrain: train/images\nnc: {len(classes)}\n{names}"
        write_atomically(self._root / "data.yaml", yaml.encode())
        write_atomically(self._root / "train" / "classes.txt", "".join(f"{name}\n" for name in one_line).encode())
        self._classes = classes
