"""AP of small objects with and without tiles, and with SAHI: python tools/tile_benchmark.py IMAGES LABELS [COUNT].

Composites of 3840x2160 pixels are made of photographs with known boxes (YOLO labels of COCO's 80 classes), at random
places and half to full size; the same each time. SAHI slices the same detector with the same tile and overlap, if it is
installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from yolofpn import load_detector
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Detections, Image, Target

SIZE = (2160, 3840)
TILE, OVERLAP = 640, 0.2
SCORE = 0.01


def compose(images: Path, labels: Path, seed: int, size: tuple[int, int] = SIZE) -> tuple[Image, Target]:
    """A composite of photographs in rows, and its boxes.

    Args:
        images: folder of JPEG files.
        labels: folder of text files of the same stems.
        seed: of the choice, the scales and the gaps.
        size: (height, width) in pixels.
    """
    rng = np.random.default_rng(seed)
    paths = [path for path in sorted(images.glob("*.jpg")) if (labels / f"{path.stem}.txt").is_file()]
    canvas = np.full((*size, 3), 114, np.uint8)
    boxes, classes = [np.zeros((0, 4))], [np.zeros(0)]
    top = 0
    while top < size[0]:
        left, row_height = int(rng.integers(0, 60)), 0
        while left < size[1]:
            path = paths[int(rng.integers(len(paths)))]
            image = cv2.imread(str(path))
            scale = rng.uniform(0.5, 1)
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            height, width = image.shape[:2]
            if left + width > size[1] or top + height > size[0]:
                break
            canvas[top : top + height, left : left + width] = image
            rows = np.loadtxt(labels / f"{path.stem}.txt", ndmin=2).reshape(-1, 5)
            centre, half = rows[:, 1:3] * [width, height], rows[:, 3:] * [width, height] / 2
            boxes.append(np.concatenate([centre - half, centre + half], axis=1) + np.array([left, top, left, top]))
            classes.append(rows[:, 0])
            left += width + int(rng.integers(0, 40))
            row_height = max(row_height, height)
        top += row_height + int(rng.integers(4, 40)) if row_height else size[0]
    found = np.concatenate(boxes)
    areas = (found[:, 2:] - found[:, :2]).prod(axis=1)
    return canvas, Target(
        torch.from_numpy(found).float(),
        torch.from_numpy(np.concatenate(classes)).long(),
        torch.zeros(len(found), dtype=torch.bool),
        torch.from_numpy(areas).float(),
        image_id=seed,
    )


def sahi_model(predictor: Predictor) -> Any:  # noqa: ANN401
    """The detector as SAHI takes it."""
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction

    class Wrapped(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.set_model(predictor)

        def set_model(self, model: Any, **_: Any) -> None:  # noqa: ANN401
            self.model = model
            self.category_mapping = {str(label): name for label, name in enumerate(model.names)}

        def perform_inference(self, image: Any) -> None:  # noqa: ANN401
            self._original_predictions = self.model(np.ascontiguousarray(image), rgb=True)

        def _create_object_prediction_list_from_original_predictions(
            self,
            shift_amount_list: Any = None,  # noqa: ANN401
            full_shape_list: Any = None,  # noqa: ANN401
        ) -> None:
            shift = shift_amount_list[0] if shift_amount_list and isinstance(shift_amount_list[0], list) else [0, 0]
            shape = full_shape_list[0] if full_shape_list and isinstance(full_shape_list[0], list) else full_shape_list
            found = self._original_predictions
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=box,
                        category_id=label,
                        score=score,
                        category_name=predictor.names[label],
                        shift_amount=shift,
                        full_shape=shape,
                    )
                    for box, score, label in zip(
                        found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
                    )
                    if box[2] > box[0] and box[3] > box[1]
                ]
            ]

    return Wrapped(model_path="", confidence_threshold=SCORE, device="cpu", load_at_init=True)


def by_sahi(predictor: Predictor) -> Callable[[Image], Detections]:
    """SAHI's sliced prediction, with its default merge (GREEDYNMM of IoS .5) within each class."""
    from sahi.predict import get_sliced_prediction

    model = sahi_model(predictor)

    def detect(image: Image) -> Detections:
        result = get_sliced_prediction(
            np.ascontiguousarray(image[:, :, ::-1]),
            model,
            slice_height=TILE,
            slice_width=TILE,
            overlap_height_ratio=OVERLAP,
            overlap_width_ratio=OVERLAP,
            verbose=0,
        ).object_prediction_list
        order = sorted(result, key=lambda each: -each.score.value)[:300]
        boxes = np.array([each.bbox.to_xyxy() for each in order], np.float32).reshape(-1, 4)
        return Detections(boxes, [each.score.value for each in order], [each.category.id for each in order])

    return detect


def measure(
    scenes: Sequence[tuple[Image, Target]], detect: Callable[[Image], Detections], names: tuple[str, ...]
) -> dict[str, float]:
    """AP figures, and seconds of CPU time for each image."""
    metrics = DetectionMetrics(names)
    start = time.process_time()
    found = [detect(image) for image, _ in scenes]
    seconds = (time.process_time() - start) / len(scenes)
    for each, (_, target) in zip(found, scenes, strict=True):
        metrics.add(each, target)
    values = metrics.compute().values
    return {name: values[name] for name in ("AP", "AP50", "APs", "APm", "APl")} | {"CPU seconds": seconds}


def main(images: Path, labels: Path, count: int) -> None:
    """Print a row for each way to detect."""
    torch.set_num_threads(1)
    scenes = [compose(images, labels, seed) for seed in range(count)]
    options: dict[str, Any] = {"score_thresh": SCORE, "nms_thresh": 0.6, "device": "cpu", "backend": "torch"}
    plain = load_detector(**options)
    tiled = load_detector("auto", tile=TILE, overlap=OVERLAP, **options)
    ways: dict[str, Callable[[Image], Detections]] = {"plain": plain, "tiles": tiled}
    try:
        ways["SAHI"] = by_sahi(plain)
    except ModuleNotFoundError:
        print("SAHI is not installed: pip install sahi==0.12.8")
    objects = sum(len(target) for _, target in scenes)
    print(f"{count} composites, {objects} objects")
    for name, detect in ways.items():
        figures = measure(scenes, detect, plain.names)
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photographs")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="folder of their YOLO labels")
    parser.add_argument("count", type=int, metavar="COUNT", nargs="?", default=20, help="composites (default: 20)")
    main(**vars(parser.parse_args()))
