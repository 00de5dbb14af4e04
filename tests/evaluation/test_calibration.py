"""What int8 is made from, what it may cost, and that a graph that costs more is not left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call
from tests.evaluation.squares import Square, metadata_of_finder, square_finder, write_darknet_finder, write_squares
from yolofpn.cli.export import main
from yolofpn.detector import Detector
from yolofpn.errors import UserError
from yolofpn.evaluation.calibration import open_calibration
from yolofpn.inference.export_graph import ExportOptions, open_export
from yolofpn.runtimes import openvino
from yolofpn.runtimes.exported import ExportedDetector

# Two of the three red squares can be seen: precision is 1 at 67 of COCO's 101 recalls, those up to 2/3.
IMAGES = [[Square("red", 1, 2)], [Square("red", 0, 0), Square("red", 5, 5, painted=False)]]
AP = 67 / 101


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "data", IMAGES, categories={"red": 1, "blue": 2})


@pytest.fixture
def without_nncf(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Graphs stay in full precision; of how many images they were to be quantised."""
    counts: list[int] = []

    def keep(model: Any, images: Any) -> Any:
        counts.append(len(images))
        return model

    monkeypatch.setattr(openvino, "quantize", keep)
    return counts


def test_images_and_precision_are_those_of_the_data_set(data: Path) -> None:
    calibration = open_calibration(str(data), metadata_of_finder())
    assert [tuple(image.shape) for image in calibration.images] == [(1, 3, 64, 64)] * 2
    assert calibration.images[0][0, :, 8, 16].tolist() == [255, 0, 0]  # RGB, row 1, column 2
    assert calibration.images[0].sum() == 64 * 255
    assert calibration.average_precision(square_finder()) == pytest.approx(AP)


def test_damaged_images_are_left_out(data: Path) -> None:
    (data.parent / "images" / "p1.png").write_bytes(b"no image")
    calibration = open_calibration(str(data), metadata_of_finder())
    assert len(calibration.images) == 1
    assert calibration.average_precision(square_finder()) == pytest.approx(1.0)
    (data.parent / "images" / "p0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="none"):
        open_calibration(str(data), metadata_of_finder())


def test_a_data_set_without_the_classes_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match="common"):
        open_calibration(str(data), metadata_of_finder(names=("horse", "cart", "coachman")))


@pytest.mark.slow
def test_the_command_says_what_int8_costs(data: Path, tmp_path: Path, without_nncf: list[int], capsys: Any) -> None:
    output = tmp_path / "out" / "finder.xml"
    words = ["--format", "openvino", "--precision", "int8", "--calibration", data]
    outcome = call(main, capsys, "--weights", write_darknet_finder(tmp_path), *words, output)
    assert outcome.code == 0, outcome.err
    assert "checked: int8, AP 0.663 of 0.663 on 2 images" in outcome.out
    assert without_nncf == [2]
    assert sorted(path.name for path in output.parent.iterdir()) == ["finder.bin", "finder.xml"]


@pytest.mark.slow
@pytest.mark.usefixtures("without_nncf")
def test_a_graph_that_loses_too_much_is_not_left_behind(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "finder.xml"
    weights = str(write_darknet_finder(tmp_path))
    exporter, _ = open_export(ExportOptions(output, "openvino", weights, precision="int8"))

    def precision(detector: Detector) -> float:
        return 0.589 if isinstance(detector, ExportedDetector) else 0.6

    calibration = replace(open_calibration(str(data), exporter.metadata), average_precision=precision)
    with pytest.raises(UserError, match="loses more"):
        exporter.export(calibration)
    assert list(output.parent.iterdir()) == []
