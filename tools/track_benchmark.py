"""HOTA, IDF1 and MOTA of the trackers, and their cost: python tools/track_benchmark.py [IMAGES LABELS].

Objects move along curves in front of and behind each other and behind pillars, so who is where is known. Without
arguments detections are the truth with noise. With a folder of images and one of their YOLO labels, objects are crops
of these images, moved over another one, and the default weights detect them. The figures are computed twice, by the
library trackers and by TrackEval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolofpn.data.images import read_image
from yolofpn.structures import Detections, Frame, Image, Limits
from yolofpn.tracking import TRACKERS
from yolofpn.tracking.source_tracks import SourceTracks, TrackOptions, followed

NAMES = ("person", "car")
SEEN = 0.25  # part of an object that must be visible for it to count
COUNTS = (10, 50, 200)  # objects in a frame, for the cost
LIMITS = Limits(score_thresh=0.25)


@dataclass(frozen=True)
class Scene:
    """Truth of a sequence.

    Attributes:
        size: (height, width) in pixels.
        fps: frames per second.
        boxes: [T, N, 4] xyxy of N objects in T frames, far ones first.
        labels: [N].
        visible: [T, N] part of each box that is in the image and not covered.
        pillars: [P, 4] xyxy.
    """

    size: tuple[int, int]
    fps: float
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    visible: NDArray[np.float64]
    pillars: NDArray[np.int64]


def make_sequence(
    seed: int,
    *,
    objects: int = 12,
    seconds: float = 6.0,
    fps: float = 30.0,
    size: tuple[int, int] = (540, 960),
    sides: NDArray[np.float64] | None = None,
) -> Scene:
    """Objects that cross the image at 40 to 200 pixels per second, each along a wave; the same for the same seed.

    Args:
        seed: of all that is random.
        objects: how many.
        seconds: length.
        fps: frames per second.
        size: (height, width) in pixels.
        sides: [N, 2] widths and heights of the objects; drawn if None.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    times = np.arange(round(seconds * fps)) / fps
    if sides is None:
        sides = np.exp(rng.uniform(np.log(30), np.log(120), (objects, 1))) * [1, 1.6]
    speed = rng.uniform(40, 200, objects) * rng.choice([-1, 1], objects)
    middle = rng.uniform(0.2, 0.8, objects) * width  # where each is at half time
    x = middle + speed * (times[:, None] - seconds / 2)
    wave, phase = rng.uniform(5, 40, objects), rng.uniform(0, 2 * np.pi, objects)
    y = rng.uniform(0.3, 0.75, objects) * height + wave * np.sin(times[:, None] * rng.uniform(0.5, 2, objects) + phase)
    centre = np.stack([x, y], axis=2)
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=2)
    left = np.array([0.3, 0.7]) * width
    pillars = np.stack([left, np.zeros(2), left + 0.05 * width, np.full(2, height)], axis=1).round().astype(np.int64)
    return Scene(size, fps, boxes, rng.integers(len(NAMES), size=objects), _visible(boxes, pillars, size), pillars)


def _visible(
    boxes: NDArray[np.float64], pillars: NDArray[np.int64], size: tuple[int, int], scale: int = 4
) -> NDArray[np.float64]:
    """Painted far to near with the number of each object, at a quarter of the size."""
    visible = np.zeros(boxes.shape[:2])
    for step, row in enumerate((boxes / scale).round().astype(int)):
        owner = np.full((size[0] // scale, size[1] // scale), -1)
        for number, (x1, y1, x2, y2) in enumerate(row):
            owner[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = number
        for x1, y1, x2, y2 in (pillars / scale).round().astype(int):
            owner[y1:y2, x1:x2] = -1
        areas = np.maximum((row[:, 2] - row[:, 0]) * (row[:, 3] - row[:, 1]), 1)
        visible[step] = np.bincount(owner[owner >= 0], minlength=len(row)) / areas
    return np.minimum(visible, 1)


def noisy_detections(sequence: Scene, seed: int) -> list[Detections]:
    """What a detector might find: jittered boxes, lower scores and misses where little is visible, some false ones."""
    rng = np.random.default_rng(seed)
    found = []
    height, width = sequence.size
    for boxes, visible in zip(sequence.boxes, sequence.visible, strict=True):
        scores = np.clip(0.25 + 0.65 * visible + rng.normal(0, 0.1, len(boxes)), 0.01, 0.99)
        seen = (visible > SEEN) & (rng.random(len(boxes)) < 0.95) & (scores > 0.1)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        own = boxes + rng.normal(0, 0.03, boxes.shape) * sides
        false = rng.random(2) < 0.1
        corners = rng.uniform(0, [width, height], (2, 2))
        wrong = np.concatenate([corners, corners + rng.uniform(20, 100, (2, 2))], axis=1)
        all_boxes = np.concatenate([own[seen], wrong[false]]).clip(0, [width, height] * 2)
        all_scores = np.concatenate([scores[seen], rng.uniform(0.1, 0.4, 2)[false]])
        labels = np.concatenate([sequence.labels[seen], rng.integers(len(NAMES), size=2)[false]])
        order = np.argsort(-all_scores, kind="stable")
        found.append(Detections(all_boxes[order], all_scores[order], labels[order], NAMES))
    return found


def paint(sequence: Scene, crops: Sequence[Image], background: Image) -> list[Image]:
    """The frames: crops pasted far to near, pillars in front of them."""
    frames = []
    base = cv2.resize(background, sequence.size[::-1], interpolation=cv2.INTER_AREA)
    for row in sequence.boxes.round().astype(int):
        canvas = base.copy()
        for crop, (x1, y1, x2, y2) in zip(crops, row, strict=True):
            part = cv2.resize(crop, (max(x2 - x1, 1), max(y2 - y1, 1)), interpolation=cv2.INTER_AREA)
            left, top = max(-x1, 0), max(-y1, 0)
            target = canvas[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
            target[:] = part[top : top + target.shape[0], left : left + target.shape[1]]
        for x1, y1, x2, y2 in sequence.pillars:
            canvas[y1:y2, x1:x2] = 90
        frames.append(np.asarray(canvas, np.uint8))
    return frames


def follow(sequence: Scene, found: Sequence[Detections], tracker: str, every: int = 1) -> list[Detections]:
    """Track every ``every``-th frame."""
    tracks = SourceTracks(TrackOptions(tracker), LIMITS)
    blank = np.zeros((*sequence.size, 3), np.uint8)
    steps = range(0, len(found), every)
    return [tracks.update(Frame(blank, "made", step, step / sequence.fps), found[step]) for step in steps]


Pair = tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[NDArray[np.float64]]]


def compare(sequence: Scene, tracked: Sequence[Detections], every: int = 1) -> Pair:
    """Ids of the truth and of the tracker, and the IoU of their boxes, for each frame."""
    truth_ids, ids, ious = [], [], []
    for step, found in zip(range(0, len(sequence.boxes), every), tracked, strict=True):
        truth = np.flatnonzero(sequence.visible[step] > SEEN)
        assert found.track_ids is not None
        own = found[found.track_ids >= 0]
        assert own.track_ids is not None
        bounds = np.array([*sequence.size[::-1]] * 2)
        overlap = _iou(sequence.boxes[step][truth].clip(0, bounds), own.boxes.astype(np.float64))
        overlap *= sequence.labels[truth][:, None] == own.labels[None]
        truth_ids.append(truth.astype(np.int64))
        ids.append(own.track_ids)
        ious.append(overlap)
    return truth_ids, ids, ious


def _iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    shared: NDArray[np.float64] = sides.clip(0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    iou: NDArray[np.float64] = shared / (areas[0][:, None] + areas[1][None] - shared)
    return iou


def _dense(pair: Pair) -> Pair:
    """Ids as 0, 1, ..., as the metrics take them."""
    columns = []
    for column in pair[:2]:
        known = np.unique(np.concatenate([*column, np.zeros(0, np.int64)]))
        columns.append([np.searchsorted(known, ids) for ids in column])
    return columns[0], columns[1], pair[2]


def score_by_library(pair: Pair) -> dict[str, float]:
    """HOTA, IDF1 and MOTA in [0, 1] and the number of id switches, by ``trackers.eval``."""
    from trackers.eval import compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

    dense = _dense(pair)
    clear, identity = compute_clear_metrics(*dense), compute_identity_metrics(*dense)
    hota: Any = compute_hota_metrics(*dense)
    return {"HOTA": hota["HOTA"], "IDF1": identity["IDF1"], "MOTA": clear["MOTA"], "switches": clear["IDSW"]}


def score_by_trackeval(pair: Pair) -> dict[str, float]:
    """The same by TrackEval."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    truth, ids, ious = _dense(pair)
    data = {
        "num_timesteps": len(truth),
        "gt_ids": truth,
        "tracker_ids": ids,
        "similarity_scores": ious,
        "num_gt_dets": sum(map(len, truth)),
        "num_tracker_dets": sum(map(len, ids)),
        "num_gt_ids": 1 + max((int(each.max()) for each in truth if len(each)), default=-1),
        "num_tracker_ids": 1 + max((int(each.max()) for each in ids if len(each)), default=-1),
    }
    quiet = {"PRINT_CONFIG": False}
    clear, identity = CLEAR({"THRESHOLD": 0.5, **quiet}), Identity({"THRESHOLD": 0.5, **quiet})
    switches = clear.eval_sequence(data)
    return {
        "HOTA": float(np.mean(HOTA().eval_sequence(data)["HOTA"])),
        "IDF1": float(identity.eval_sequence(data)["IDF1"]),
        "MOTA": float(switches["MOTA"]),
        "switches": float(switches["IDSW"]),
    }


def read_crops(images: Path, labels: Path, count: int, seed: int) -> list[tuple[int, Image]]:
    """Objects of at least 80 pixels a side that are persons (COCO's label 0) or cars (2), and no edge cuts."""
    found = []
    for path in sorted(labels.glob("*.txt")):
        photograph = images / path.with_suffix(".jpg").name
        if not photograph.is_file():  # such as a list of classes
            continue
        image = read_image(photograph)
        for line in path.read_text().splitlines():
            label, x, y, w, h = map(float, line.split())
            if label not in (0, 2) or min(x - w / 2, y - h / 2, 1 - x - w / 2, 1 - y - h / 2) < 0.01:
                continue
            height, width = image.shape[:2]
            box = np.array([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height])
            x1, y1, x2, y2 = box.round().astype(int)
            if min(x2 - x1, y2 - y1) >= 80:
                found.append((int(label == 2), np.asarray(image[y1:y2, x1:x2], np.uint8)))
    order = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[index] for index in order]


def detected(images: Path, labels: Path, seed: int) -> tuple[Scene, list[Detections]]:
    """A sequence of crops and what the default weights find in its frames."""
    from yolofpn import load_detector

    crops = read_crops(images, labels, 12, seed)
    scale = [min(160 / max(crop.shape[:2]), 1) for _, crop in crops]
    sides = np.array([(crop.shape[1] * s, crop.shape[0] * s) for (_, crop), s in zip(crops, scale, strict=True)])
    made = make_sequence(seed, objects=len(crops), sides=sides, fps=10)
    kinds = np.array([label for label, _ in crops])
    sequence = Scene(made.size, made.fps, made.boxes, kinds, made.visible, made.pillars)
    background = cv2.GaussianBlur(read_image(sorted(images.glob("*.jpg"))[seed]), (0, 0), 15)
    frames = paint(sequence, [crop for _, crop in crops], np.asarray(background, np.uint8))
    predictor = load_detector(classes=NAMES)
    label_of = {predictor.names.index(name): number for number, name in enumerate(NAMES)}
    limits = followed(predictor.limits)
    found = []
    for frame in frames:
        own = predictor.predict([frame], limits)[0]
        relabelled = np.array([label_of[label] for label in own.labels.tolist()], np.int64)
        found.append(Detections(own.boxes, own.scores, relabelled, NAMES))
    return sequence, found


def steady_detections(objects: int, frames: int = 90) -> list[Detections]:
    """So many objects in every frame, 1920x1080 pixels, but for one miss in twenty; each keeps to its place."""
    rng = np.random.default_rng(0)
    columns = int(np.ceil(np.sqrt(objects)))
    cells = np.stack(np.divmod(np.arange(objects), columns)[::-1], axis=1) + 0.5
    centres, speeds = cells * [1920 / columns, 1080 / columns], rng.uniform(-0.2, 0.2, (objects, 2))
    half, labels = rng.uniform(10, 30, (objects, 2)), rng.integers(len(NAMES), size=objects)
    found = []
    for step in range(frames):
        now = centres + speeds * step + rng.normal(0, 1, (objects, 2))
        boxes, scores = np.concatenate([now - half, now + half], axis=1), rng.uniform(0.15, 0.95, objects)
        order = np.argsort(-scores)
        order = order[rng.random(objects) < 0.95]
        found.append(Detections(boxes[order], scores[order], labels[order], NAMES))
    return found


def milliseconds(tracker: str, objects: int) -> float:
    """CPU time of a frame with so many objects, all that ``--track`` adds: the median."""
    tracks = SourceTracks(TrackOptions(tracker), LIMITS)
    image = np.random.default_rng(0).integers(256, size=(1080, 1920, 3), dtype=np.uint8)
    cv2.setNumThreads(1)
    times = []
    for step, found in enumerate(steady_detections(objects)):
        start = time.process_time()
        tracks.update(Frame(image, "made", step, step / 30), found)
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times[10:]))


def main(images: Path | None, labels: Path | None) -> None:
    """Print a row for each tracker."""
    if images and labels:
        scenes = [detected(images, labels, seed) for seed in range(3)]
    else:
        scenes = [(made := make_sequence(seed), noisy_detections(made, seed)) for seed in range(10)]
    print("tracker | every | HOTA | IDF1 | MOTA | switches | largest difference to TrackEval")
    for tracker in TRACKERS:
        for every in (1, 3):
            pairs = [compare(scene, follow(scene, found, tracker.key, every), every) for scene, found in scenes]
            own, other = [score_by_library(pair) for pair in pairs], [score_by_trackeval(pair) for pair in pairs]
            means = {name: float(np.mean([each[name] for each in own])) for name in own[0]}
            apart = max(abs(a[name] - b[name]) for a, b in zip(own, other, strict=True) for name in a)
            figures = " | ".join(f"{value:.3f}" for value in means.values())
            print(f"{tracker.key} | {every} | {figures} | {apart:.1e}")
    print("tracker | ms of CPU time for a frame with " + " | ".join(f"{count} objects" for count in COUNTS))
    for tracker in TRACKERS:
        print(" | ".join([tracker.key, *(f"{milliseconds(tracker.key, count):.2f}" for count in COUNTS)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES", nargs="?", help="folder of images")
    parser.add_argument("labels", type=Path, metavar="LABELS", nargs="?", help="folder of their YOLO labels")
    arguments = parser.parse_args()
    if arguments.images and not arguments.labels:
        parser.error("LABELS is missing: the folder of the YOLO labels of IMAGES")
    main(**vars(arguments))
