"""A label format of somebody else's: a class and one more entry in the tuple of formats."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from tests.commands import call
from tests.data.trees import write, write_image
from yolofpn.__main__ import main
from yolofpn.data import formats
from yolofpn.data.label_format import has_words
from yolofpn.data.labelled_images import ImageLabels, ListedFormat, ObjectLabel


class BoxTable(ListedFormat):
    key: ClassVar[str] = "table"
    title: ClassVar[str] = "table of boxes"
    suffixes: ClassVar[tuple[str, ...]] = (".tsv",)
    has_sizes: ClassVar[bool] = False

    @classmethod
    def matches(cls, files: Iterable[Path], stems: Collection[str]) -> bool:
        return any(has_words(path, "image\tclass\tx1") for path in files)

    def parse(self, path: Path) -> list[tuple[str, ImageLabels]]:
        images: dict[str, list[ObjectLabel]] = {}
        for line in path.read_text().splitlines()[1:]:
            image, name, *corners = line.split("\t")
            x1, y1, x2, y2 = map(float, corners)
            images.setdefault(image, []).append(ObjectLabel(name, (x1, y1, x2, y2)))
        return [(image, ImageLabels(objects)) for image, objects in images.items()]


HEAD = "image\tclass\tx1\ty1\tx2\ty2\n"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, BoxTable))
    for number in range(3):
        write_image(tmp_path / "images" / f"{number}.png", seed=number)
    write(tmp_path / "train.tsv", HEAD + "0.png\tcat\t5\t5\t25\t25\n1.png\tdog\t0\t0\t12\t24\n")
    write(tmp_path / "val.tsv", HEAD + "2.png\tdog\t1\t1\t41\t31\n2.png\tdog\t50\t30\t70\t40\n")
    return tmp_path


def test_check_recognises_a_format_from_outside(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(main, capsys, "check", data)
    assert outcome.code == 1  # the last box leaves its image
    assert f"table of boxes in {data}; splits: train, val" in outcome.out
    assert "val: 1 images, 2 boxes, 2 classes" in outcome.out
    assert "problems: 1" in outcome.out


def test_a_data_yaml_knows_a_format_from_outside(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = write(data / "a.yaml", "format: table\nsplits: {train: {images: images, annotations: train.tsv}}\n")
    assert call(main, capsys, "check", yaml).code == 0
    yaml.write_text("format: table\nsplits: {train: {images: images}}\n")
    assert "annotations" in call(main, capsys, "check", yaml).err
    yaml.write_text("format: tables\nsplits: {train: {images: images}}\n")
    assert "'table'" in call(main, capsys, "check", yaml).err
