"""Pages of images and plots of a run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.small_dataset import make_target, write_dataset
from yolofpn.data.label_pages import CELL
from yolofpn.data.loader import Batch
from yolofpn.drawing import class_colour
from yolofpn.structures import Detections
from yolofpn.training.sample_pages import draw_found, fit_into_cell, save_train_batch
from yolofpn.training.training_plots import plot_average_precision, plot_labels, plot_losses


def test_images_fit_into_their_cells() -> None:
    for height, width in ((100, 200), (1000, 20), (CELL, CELL), (1, 5000)):
        small, scale = fit_into_cell(np.zeros((height, width, 3), dtype=np.uint8))
        assert max(small.shape[:2]) == CELL and min(small.shape[:2]) >= 1
        assert scale == CELL / max(height, width)


def test_boxes_are_drawn_where_they_were_found() -> None:
    found = Detections(
        torch.tensor([[20.0, 40.0, 60.0, 90.0]]), torch.tensor([0.9]), torch.tensor([1]), names=("first", "second")
    )
    drawn = draw_found(np.zeros((100, 200, 3), dtype=np.uint8), found)
    assert drawn.shape == (CELL // 2, CELL, 3)
    rows, columns = np.nonzero((drawn == class_colour(1)).all(axis=2))
    scale = CELL / 200
    assert abs(columns.min() - 20 * scale) < 4 and abs(rows.max() - 90 * scale) < 4


def test_a_batch_is_shown_as_the_network_sees_it(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    images[0, 0] = 255  # RGB red
    batch = Batch(images, [make_target([[8, 8, 32, 32]]), make_target([])], [(0,), (1,)])
    save_train_batch(tmp_path / "plots" / "batch.jpg", batch, ("thing",))
    page = cv2.imread(str(tmp_path / "plots" / "batch.jpg"))
    assert page is not None
    middle = page.shape[0] // 2
    blue, green, red = page[middle, CELL - 20].tolist()
    assert red > 240 and blue < 20 and green < 20
    assert page[middle, 2 * CELL - 20].max() < 20
    assert not (tmp_path / "plots" / ".batch.jpg.part").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_plots_of_runs_short_and_long(tmp_path: Path) -> None:
    rows = [{"epoch": str(i), "loss": "0.5", "loss_box": "0.25", "AP": "" if i % 2 else "0.1"} for i in range(1, 80)]
    for name, some in (("none", []), ("one", rows[:1]), ("many", rows)):
        plot_losses(tmp_path / f"{name}.png", some)
        plot_average_precision(tmp_path / f"{name}-ap.png", some)
    images = {path.stem: cv2.imread(str(path)) for path in tmp_path.glob("*.png")}
    assert len(images) == 6 and all(image is not None for image in images.values())
    assert (tmp_path / "none.png").read_bytes() != (tmp_path / "many.png").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_labels_of_several_splits(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images")
    plot_labels(tmp_path / "labels.png", {"train": dataset, "val": dataset.subset([0, 1])})
    plot_labels(tmp_path / "other.png", {"train": dataset})
    first, second = (cv2.imread(str(tmp_path / name)) for name in ("labels.png", "other.png"))
    assert first is not None and second is not None and first.shape[0] > second.shape[0]
