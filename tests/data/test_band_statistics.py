"""Statistics of a data set's channels, worked out by hand, and the config that they are written into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from yolofpn.config import load_config
from yolofpn.data import band_statistics
from yolofpn.data.band_statistics import measure_bands, write_settings
from yolofpn.errors import UserError

CONFIG = """# my network
model:
  backbone: {type: strided, width: 8}
  neck: {type: none, levels: [4, 5]}
  head:
    type: yolo
    anchors:
      - [[16, 16]]   # small
      - [[32, 32]]
input: {size: [64, 64], resize: stretch}   # square
"""


def data_set(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for part in ("images", "labels"):
        (folder / "train" / part).mkdir(parents=True)
    for name, values in images.items():
        np.save(folder / "train/images" / name, values)
        (folder / "train/labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("train: train/images\nval: train/images\nnames: [thing]\n")
    return folder / "data.yaml"


def test_statistics_are_those_of_the_pixels_in_the_measured_range(tmp_path: Path) -> None:
    # Half of the pixels of band 1 are 100, half 200: percentiles 100 and 200, and no pixel lies beyond.
    image = np.zeros((10, 10, 2), np.uint16)
    image[:, :, 0] = 100
    image[:5, :, 0] = 200
    image[:, :, 1] = 7
    found = measure_bands(data_set(tmp_path, {"a.npy": image, "b.npy": image}))
    assert found.range == ((100, 200), (7, 8))
    assert found.extremes == ((100, 200), (7, 7))
    assert found.mean == pytest.approx((0.5, 0))
    assert found.std == pytest.approx((0.5, 1e-6))


def test_a_dead_pixel_does_not_set_the_range_but_bright_objects_lie_within(tmp_path: Path) -> None:
    image = np.tile(np.arange(1000, 2000, dtype=np.uint16), (100, 1))
    image[0, 0] = 65535
    found = measure_bands(data_set(tmp_path, {"a.npy": image}))
    assert found.range is not None
    ((low, high),) = found.range
    assert low == 1000
    assert 1999 < high <= 2000 + 101
    assert found.settings()["range"] == [low, high]


def test_images_that_do_not_fit_are_skipped_and_named(tmp_path: Path) -> None:
    good, other = np.zeros((4, 4, 5), np.uint16), np.zeros((4, 4, 2), np.uint16)
    data = data_set(tmp_path, {"a.npy": good, "b.npy": other, "c.npy": good.astype(np.float32)})
    found = measure_bands(data)
    assert found.images == 1
    assert [note for note in found.notes if "b.npy" in note and "2 channels" in note]
    with pytest.raises(UserError):
        measure_bands(data, channels=9)


def test_8_bit_colours_stay_what_they_are(tmp_path: Path) -> None:
    data = data_set(tmp_path, {"a.npy": np.full((4, 4, 3), (0, 51, 255), np.uint8)})
    found = measure_bands(data)
    assert found.range is None
    assert found.mean == pytest.approx((0, 0.2, 1))


def test_numbers_are_written_into_a_config_with_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(CONFIG)
    settings = {"channels": 2, "range": [[1.0, 2.0], [0.0, 9.0]], "mean": [0.5, 0.25], "std": [0.1, 0.2]}
    write_settings(path, settings)
    write_settings(path, settings)
    text = path.read_text()
    assert all(comment in text for comment in ("# my network", "# small"))
    input = load_config(path).input
    assert (input.channels, input.size, input.resize) == (2, (64, 64), "stretch")
    assert (input.range, input.mean, input.std) == (((1, 2), (0, 9)), (0.5, 0.25), (0.1, 0.2))
    with pytest.raises(UserError, match="std"):
        write_settings(path, {**settings, "std": [0.0, 1.0]})
    assert path.read_text() == text


def test_the_command_prints_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from yolofpn.cli.stats import main

    folder = tmp_path / "pngs"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    PIL.Image.fromarray(np.arange(10_000, 10_100, dtype=np.uint16).reshape(10, 10)).save(folder / "images/a.png")
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [thing]\n")
    config = tmp_path / "net.yaml"
    config.write_text(CONFIG)
    assert main(["--data", str(folder / "data.yaml"), "--write", str(config)]) == 0
    assert "range: [10000.0, 10099.0]" in capsys.readouterr().out
    assert load_config(config).input.range == (10_000, 10_099)


def test_an_empty_section_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(CONFIG.replace("input: {size: [64, 64], resize: stretch}", "input:"))
    write_settings(path, {"channels": 1, "range": [0.0, 9.0], "mean": [0.5], "std": [0.1]})
    assert load_config(path).input.range == (0, 9)


def test_pixels_are_drawn_from_all_columns(tmp_path: Path) -> None:
    # One column in five is bright; a step of five pixels would see that one only, or never.
    image = np.zeros((250, 200), np.uint16)
    image[:, ::5] = 1000
    found = measure_bands(data_set(tmp_path, {"a.npy": image}))
    assert found.range == ((0, 1000),)
    assert found.mean == pytest.approx((0.2,), abs=0.02)
    assert found.std == pytest.approx((0.4,), abs=0.02)


def test_pixels_that_are_nan_count_for_nothing(tmp_path: Path) -> None:
    image = np.full((10, 10, 2), 5, np.float32)
    image[:5] = 3
    hole = image.copy()
    hole[::2, :, 0] = np.nan
    data = data_set(tmp_path, {"a.npy": image, "b.npy": hole, "c.npy": np.full_like(image, np.nan)})
    found = measure_bands(data)
    assert found.extremes == found.range == ((3, 5), (3, 5))
    assert found.images == 2
    assert found.mean[0] == pytest.approx(80 / 150)  # 30 of 50 and 50 of 100 pixels are 5
    assert [note for note in found.notes if "c.npy" in note]


def test_the_values_of_very_many_bands_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    original = band_statistics._statistics

    def noted(samples: Sequence[np.ndarray], *rest: Any) -> band_statistics.BandStatistics:
        shapes.extend(sample.shape for sample in samples)
        return original(samples, *rest)

    monkeypatch.setattr(band_statistics, "VALUES", 2 * 6 * 10)
    monkeypatch.setattr(band_statistics, "_statistics", noted)
    image = np.arange(600, dtype=np.uint16).reshape(10, 10, 6)
    measure_bands(data_set(tmp_path, {"a.npy": image, "b.npy": image}))
    assert shapes == [(10, 6), (10, 6)]
