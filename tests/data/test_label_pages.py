from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.data.trees import write, write_image
from yolofpn.data.label_pages import CELL, choose_images, draw_target, labelled_image, page, save_page
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError
from yolofpn.structures import Target


def write_set(folder: Path, count: int = 5) -> Path:
    for number in range(count):
        write_image(folder / f"{number}.png", seed=number)
        write(folder / f"{number}.txt", "0 .5 .5 .5 .5\n" if number % 2 else "")
    write(folder / "classes.txt", "cat\n")
    return folder


def test_a_page_holds_every_image_in_a_cell() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    shapes = [(CELL, 100), (50, CELL), (CELL, CELL)]
    images = [np.full((*shape, 3), colour, dtype=np.uint8) for shape, colour in zip(shapes, colours, strict=True)]
    sheet = page(images)
    assert sheet.shape[0] == sheet.shape[1]  # 2 x 2 cells
    for shape, colour in zip(shapes, colours, strict=True):
        assert int((sheet == colour).all(axis=2).sum()) == shape[0] * shape[1]
    with pytest.raises(ValueError, match="larger"):
        page([np.zeros((CELL + 1, 5, 3), dtype=np.uint8)])
    with pytest.raises(ValueError, match="needs an image"):
        page([])


def test_a_small_image_is_enlarged_with_its_boxes(tmp_path: Path) -> None:
    dataset = open_data(write_set(tmp_path)).load("all")
    drawn = labelled_image(dataset, 1)
    plain = labelled_image(dataset, 0)
    assert drawn.shape[:2] == plain.shape[:2] == (CELL * 40 // 60, CELL)
    image = cv2.resize(dataset.image(1), (CELL, CELL * 40 // 60), interpolation=cv2.INTER_LINEAR)
    changed = (drawn != image).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    # The box is the middle half: its line lies within it, only the name may stand above.
    assert columns[0] == pytest.approx(CELL / 4, abs=2)
    assert columns[-1] == pytest.approx(CELL * 3 / 4, abs=2)
    assert rows[-1] == pytest.approx(CELL * 40 // 60 * 3 / 4, abs=2)
    assert np.array_equal(plain, cv2.resize(dataset.image(0), (CELL, CELL * 40 // 60), interpolation=cv2.INTER_LINEAR))


def test_an_ignore_region_is_called_so() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    box = torch.tensor([[50.0, 60, 200, 180]])
    drawn = [
        draw_target(image, Target(box, torch.tensor([0]), torch.tensor([ignore]), torch.tensor([1.0])), ["cat"])
        for ignore in (False, True)
    ]
    longer = (drawn[1] != drawn[0]).any(axis=2)
    assert longer.any()
    assert not longer[60:].any()  # only the text above the box differs


def test_images_with_boxes_are_chosen_first(tmp_path: Path) -> None:
    dataset = open_data(write_set(tmp_path, 8)).load("all")
    chosen = choose_images(dataset, 6, seed=0)
    assert sorted(chosen[:4]) == [1, 3, 5, 7]
    assert len(set(chosen)) == 6
    assert chosen == choose_images(dataset, 6, seed=0)
    assert len(choose_images(dataset, 100, seed=0)) == 8


def test_a_page_is_written_without_the_images_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    lines = save_page(folder, tmp_path / "new" / "page.png", split="all")
    assert (tmp_path / "new" / "page.png").is_file()
    assert any("1.png" in line for line in lines)
    assert lines[-1].startswith("4 images of all")


@pytest.mark.parametrize("name", ["page.txt", "file/page.png"])
def test_a_page_that_cannot_be_written_is_a_user_error(tmp_path: Path, name: str) -> None:
    folder = write_set(tmp_path / "set")
    write(tmp_path / "file", "")
    with pytest.raises(UserError, match="written"):
        save_page(folder, tmp_path / name)
