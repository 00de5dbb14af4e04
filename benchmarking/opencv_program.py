"""A detector as OpenCV's users write it: ``cv2.dnn.DetectionModel`` on a Darknet network. It knows OpenCV alone.

``python opencv_program.py CFG WEIGHTS SCORE_THRESH OUTPUT SOURCE...`` writes a line of JSON for each image or frame
into the folder OUTPUT: ``[SOURCE, [[x1, y1, x2, y2, score, label], ...]]``; and of videos the frames with their boxes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

NMS_THRESH = 0.45
RESULTS = "detections.jsonl"


def main(cfg: str, weights: str, score_thresh: str, output: str, *sources: str) -> None:
    """Detect in all sources."""
    model = cv2.dnn.DetectionModel(cv2.dnn.readNetFromDarknet(cfg, weights))
    text = Path(cfg).read_text(encoding="utf-8")
    width, height = (int(re.findall(rf"(?m)^\s*{name}\s*=\s*(\d+)", text)[0]) for name in ("width", "height"))
    model.setInputParams(scale=1 / 255, size=(width, height), swapRB=True)
    folder = Path(output)
    folder.mkdir(parents=True)
    with (folder / RESULTS).open("w", encoding="utf-8") as file:
        for source in sources:
            writer = None
            for image, fps in _images(source):
                labels, scores, boxes = model.detect(image, float(score_thresh), NMS_THRESH)
                rows = [
                    [int(x), int(y), int(x + w), int(y + h), float(score), int(label)]
                    for (x, y, w, h), score, label in zip(boxes, np.ravel(scores), np.ravel(labels), strict=True)
                ]
                file.write(json.dumps([source, rows]) + "\n")
                if fps:
                    if writer is None:
                        size = image.shape[1], image.shape[0]
                        codec = cv2.VideoWriter.fourcc(*"mp4v")
                        writer = cv2.VideoWriter(str(folder / Path(source).name), codec, fps, size)
                    _draw(image, rows)
                    writer.write(image)
            if writer is not None:
                writer.release()


def _images(source: str) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """The image, or the frames of a video with its frames per second."""
    image = cv2.imread(source)
    if image is not None:
        yield image.astype(np.uint8, copy=False), 0.0
        return
    video = cv2.VideoCapture(source)
    fps = video.get(cv2.CAP_PROP_FPS)
    while (read := video.read())[0]:
        yield read[1].astype(np.uint8, copy=False), fps
    video.release()


def _draw(image: NDArray[np.uint8], rows: list[list[float]]) -> None:
    for x1, y1, x2, y2, score, label in rows:
        cv2.rectangle(image, (int(x1), int(y1)), (int(x2), int(y2)), (0, 255, 0), 2)
        place = (int(x1), int(y1) - 4)
        cv2.putText(image, f"{int(label)} {score:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
