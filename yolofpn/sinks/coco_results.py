"""Detections as a COCO results list, which pycocotools loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.files import AppendFile

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame

LONGEST_ID = 15  # digits; every integer of that length is exact in every JSON reader


class CocoSink:
    """``detections.coco.json``: a COCO results list, valid JSON after every image.

    ``images.json`` beside it lists every image with its id.

    Args:
        output: the run's output folder.
        image_ids: the data set's ids by relative path or file name.
    """

    key: ClassVar[str] = "coco"
    help: ClassVar[str] = "detections.coco.json, COCO results, with images.json"
    folder: ClassVar[str | None] = None

    def __init__(self, output: Path, image_ids: Mapping[str, int] | None = None) -> None:
        self._results = _JsonList(output / "detections.coco.json")
        self._images = _JsonList(output / "images.json")
        self._image_ids = dict(image_ids or {})
        self._used: set[int] = set()
        self._reserved = set(self._image_ids.values())
        self._running = 0

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add the results of one image or frame."""
        image_id = self._image_id(source)
        height, width = frame.size
        image = {"id": image_id, "file_name": frame.source, "width": width, "height": height}
        if source.kind != "image":
            image |= {"frame": frame.index, "time": round(frame.time, 6)}
        self._images.append([image])
        self._results.append(rounded_results(detections, image_id))

    def close(self) -> None:
        """Close both files."""
        try:
            self._results.close()
        finally:
            self._images.close()

    def _image_id(self, source: SourceInfo) -> int:
        """The data set's id, else an all-digit stem, else a running number; never the same for two images."""
        image_id = self._known_id(source) if source.kind == "image" else None
        if image_id is None or image_id in self._used:
            self._running += 1
            while self._running in self._used or self._running in self._reserved:
                self._running += 1
            image_id = self._running
        self._used.add(image_id)
        return image_id

    def _known_id(self, source: SourceInfo) -> int | None:
        path = source.relative_path
        for name in (path.as_posix(), path.name):
            if name in self._image_ids:
                return self._image_ids[name]
        stem = path.stem
        if stem.isascii() and stem.isdigit() and len(stem) <= LONGEST_ID and int(stem) not in self._reserved:
            return int(stem)
        return None


def rounded_results(detections: Detections, image_id: int) -> list[dict[str, Any]]:
    """``Detections.to_coco`` in fewer digits.

    Boxes are rounded to 0.001 pixels and scores to seven significant digits, all that a float32 has, so that the
    ranking that AP depends on stays as it was.
    """
    results = detections.to_coco(image_id)
    for result in results:
        result["bbox"] = [round(side, 3) for side in result["bbox"]]
        result["score"] = float(f"{result['score']:.7g}")
    return results


class _JsonList:
    """A JSON list in a file, one item a line."""

    def __init__(self, path: Path) -> None:
        self._file = AppendFile(path, head="[", tail="\n]\n")
        self._separator = "\n"

    def append(self, items: list[dict[str, Any]]) -> None:
        if items:
            lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
            self._file.append(self._separator + lines)
            self._separator = ",\n"

    def close(self) -> None:
        self._file.close()
