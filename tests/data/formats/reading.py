"""Reads a small folder of labels and gives what tests compare."""

from __future__ import annotations

from pathlib import Path

from tests.data.trees import write_image
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data

Row = tuple[str, str, list[float], bool]


def write_images(folder: Path, *names: str, height: int = 40, width: int = 60) -> None:
    for seed, name in enumerate(names):
        write_image(folder / name, height, width, seed)


def load(folder: Path, label_format: str) -> DetectionDataset:
    """The data set of a folder, which is taken for ``label_format``."""
    source = open_data(folder)
    assert source.layout.format == label_format, source.layout
    return source.load("all")


def rows_of(dataset: DetectionDataset) -> list[Row]:
    """(image, class, box to a thousandth of a pixel, whether it is an ignore region) of each object in its order."""
    images = [Path(dataset.paths[int(index)]).name for index in dataset.image_index]
    names = [dataset.names[label] for label in dataset.labels]
    boxes = [[round(side, 3) for side in box] for box in dataset.boxes.tolist()]
    return list(zip(images, names, boxes, dataset.ignore.tolist(), strict=True))


def reasons(dataset: DetectionDataset) -> str:
    return "\n".join(problem.reason for problem in dataset.problems)
