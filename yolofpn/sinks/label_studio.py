"""Detections as predictions of Label Studio tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.data.writers.label_studio_writer import label_config, local_image, regions
from yolofpn.files import AppendFile, write_atomically
from yolofpn.sinks.prelabels import FlatImages, written_image

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class LabelStudioSink:
    """``label-studio/``: ``tasks.json`` with predictions, ``images/`` and the labelling interface.

    The folder is the document root of Label Studio's local storage. Predictions have the name of the run's output
    folder as model version.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "label-studio"
    help: ClassVar[str] = "label-studio/, images and tasks with predictions"
    folder: ClassVar[str | None] = "label-studio"

    def __init__(self, output: Path) -> None:
        self._root = output / "label-studio"
        self._version = output.absolute().name
        self._images = FlatImages(self._root / "images")
        self._tasks: AppendFile | None = None
        self._classes: tuple[str, ...] | None = None

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Write the image and add its task."""
        name = self._images.write(source, frame)
        if detections.names != self._classes:
            self._classes = detections.names
            write_atomically(self._root / "label_config.xml", label_config(detections.names).encode())
        data = {"image": local_image(f"images/{name}")}
        text = json.dumps({"data": data, "predictions": [prediction(detections, frame.size, self._version)]})
        if self._tasks is None:
            self._tasks = AppendFile(self._root / "tasks.json", head="[\n", tail="\n]\n")
            self._tasks.append(text)
        else:
            self._tasks.append(f",\n{text}")

    def close(self) -> None:
        """Close the file."""
        if self._tasks is not None:
            self._tasks.close()


def prediction(detections: Detections, size: tuple[int, int], model_version: str) -> dict[str, Any]:
    """One of a task's ``predictions``, as tasks and ML backends give them to Label Studio.

    Its score, by which Label Studio can order tasks, is the lowest of its detections: what is most doubtful.

    Args:
        detections: of the image.
        size: its (height, width).
        model_version: what Label Studio calls the model.
    """
    score = round(min(detections.scores.tolist(), default=1.0), 4)
    return {"model_version": model_version, "score": score, "result": regions(written_image("", size, detections))}
