"""Tracks as one JSON file in the manner of COCO's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from yolofpn.files import AppendFile
from yolofpn.sinks.coco_results import rounded_results

if TYPE_CHECKING:
    from yolofpn.sinks.output_names import SourceInfo
    from yolofpn.structures import Detections, Frame


class CocoVideoSink:
    """``tracks.coco.json``: ``videos``, ``images``, ``annotations``, ``tracks`` and ``categories``.

    Annotations have ``video_id`` and the object's number over all videos, as ``track_id`` (TAO) and ``instance_id``
    (CocoVID); detections without a track are not in it. They are written as they come, everything else, which is
    smaller, at the end: the file is valid JSON at any time, and complete when the run ends.

    Args:
        output: the run's output folder.
    """

    key: ClassVar[str] = "coco-video"
    help: ClassVar[str] = "tracks.coco.json, COCO with videos and tracks, with --track"
    folder: ClassVar[str | None] = None

    def __init__(self, output: Path) -> None:
        self._file = AppendFile(output / "tracks.coco.json", head='{"annotations": [\n', tail="\n]}\n")
        self._separator = ""
        self._annotations = 0
        self._videos: dict[
            int, tuple[SourceInfo, dict[str, Any]]
        ] = {}  # holds the source, so that its id stays its own
        self._images: list[dict[str, Any]] = []
        self._tracks: dict[tuple[int, int], dict[str, Any]] = {}
        self._categories: dict[int, str] = {}

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        """Add one frame; images have no tracks."""
        if source.kind == "image":
            return
        height, width = frame.size
        if id(source) not in self._videos:
            video = {"id": len(self._videos) + 1, "name": frame.source, "width": width, "height": height}
            self._videos[id(source)] = source, video
        video_id = self._videos[id(source)][1]["id"]
        image_id = len(self._images) + 1
        self._images.append(
            {
                "id": image_id,
                "video_id": video_id,
                "frame_id": frame.index,
                "time": round(frame.time, 6),
                "file_name": f"{frame.source}/{frame.index:06d}.jpg",
                "width": width,
                "height": height,
            }
        )
        if detections.track_ids is None:
            return
        if not self._categories:
            ids = detections.category_ids or range(len(detections.names))
            self._categories = dict(zip(ids, detections.names, strict=True))
        for result in rounded_results(detections, image_id):
            if result["track_id"] is not None:
                self._add(result, video_id)

    def close(self) -> None:
        """Add the other lists and close the file."""
        parts: dict[str, Any] = {
            "videos": [video for _, video in self._videos.values()],
            "images": self._images,
            "tracks": list(self._tracks.values()),
            "categories": [{"id": id_, "name": name} for id_, name in self._categories.items()],
        }
        lists = "".join(f',\n"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in parts.items())
        try:
            self._file.end(f"\n]{lists}}}\n")
        finally:
            self._file.close()

    def _add(self, result: dict[str, Any], video_id: int) -> None:
        key = video_id, result["track_id"]
        category = result["category_id"]
        track = self._tracks.setdefault(
            key, {"id": len(self._tracks) + 1, "video_id": video_id, "category_id": category}
        )
        self._annotations += 1
        width, height = result["bbox"][2:]
        annotation = {"id": self._annotations, "video_id": video_id, **result}
        annotation |= {
            "track_id": track["id"],
            "instance_id": track["id"],
            "area": round(width * height, 3),
            "iscrowd": 0,
        }
        self._file.append(self._separator + json.dumps(annotation))
        self._separator = ",\n"
