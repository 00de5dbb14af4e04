"""Sources, frames and detections for tests of what writes results."""

from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch

from yolofpn.structures import Detections, Frame, Image

NAMES = ("person", "bicycle", "dog")


@dataclass(eq=False)
class FakeSource:
    relative_path: PurePath
    kind: str = "image"
    path: Path | None = None
    fps: float | None = None

    @property
    def name(self) -> str:
        return self.relative_path.as_posix()


def image_source(name: str, path: Path | None = None) -> FakeSource:
    return FakeSource(PurePath(name), path=path)


def video(name: str = "clip.avi", path: Path | None = None, fps: float | None = 10.0) -> FakeSource:
    return FakeSource(PurePath(name), "video", path, fps)


def noise(height: int = 60, width: int = 80, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frame_of(source: FakeSource, image: Image | None = None, index: int = 0, time: float = 0.0) -> Frame:
    return Frame(noise() if image is None else image, source.name, index, time)


def two_found(names: tuple[str, ...] = NAMES, category_ids: tuple[int, ...] = (1, 2, 18)) -> Detections:
    return Detections(
        torch.tensor([[10.0, 20.0, 30.0, 50.0], [0.0, 0.0, 80.0, 60.0]]),
        torch.tensor([0.9, 0.25]),
        torch.tensor([2, 0]),
        names,
        category_ids,
    )


def nothing_found(names: tuple[str, ...] = NAMES) -> Detections:
    empty = Detections.empty()
    return Detections(empty.boxes, empty.scores, empty.labels, names)
