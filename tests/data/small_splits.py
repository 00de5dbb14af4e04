"""One box in an image of 40 x 60, as every format writes it, and the check that it was read."""

from __future__ import annotations

from pathlib import Path

from tests.data.trees import voc_xml, write, write_image
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import DataSource

LINE = "1 0.5 0.5 0.5 0.5\n"  # of a 40 x 60 image: the box 15, 10, 45, 30
BOX = [15, 10, 45, 30]
XML = voc_xml([("dog", (16, 11, 45, 30))])
JSON_BOX = [15, 10, 30, 20]


def write_yolo(image: Path, label: Path, seed: int = 0) -> None:
    write_image(image, seed=seed)
    write(label, LINE)


def check_split(
    source: DataSource, split: str, stems: list[str], names: tuple[str, ...] = ("cat", "dog")
) -> DetectionDataset:
    """The split has these images, each with the box of LINE."""
    dataset = source.load(split)
    assert [Path(path).stem for path in dataset.paths] == stems
    assert dataset.names == names
    for index in range(len(dataset)):
        image, target = dataset[index]
        assert image.shape == (3, 40, 60)
        assert target.boxes.tolist() == [BOX]
        assert names[int(target.labels[0])] == names[-1]
    return dataset


def note_about(source: DataSource, words: str) -> str:
    notes = [note for note in source.notes if words in note]
    assert len(notes) == 1, source.notes
    return notes[0]
