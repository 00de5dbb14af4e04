from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.small import write_images
from yolofpn.data.added_classes import add_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError

OLD = ("Motorcycle", "person", "cup")


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_data(str(write_images(tmp_path_factory.mktemp("squares"), 2))).load("train")


def named(dataset: DetectionDataset, *names: str, ids: tuple[int, ...] = (0, 1)) -> DetectionDataset:
    return replace(dataset, names=names, category_ids=ids)


def test_names_are_merged_in_any_spelling(squares: DetectionDataset) -> None:
    classes = add_classes(OLD, (), named(squares, "drone", "motor bike".replace(" ", "")), "DATA")
    assert classes.names == (*OLD, "drone")
    assert (classes.labels, classes.new, classes.kept) == ((3, 0), (3,), (1, 2))
    relabelled = classes.relabel(squares)
    assert relabelled.names == classes.names
    assert np.array_equal(relabelled.labels, np.where(squares.labels == 0, 3, 0))
    assert np.array_equal(relabelled.boxes, squares.boxes)
    assert any("Motorcycle" in line for line in classes.describe()[1:])


@pytest.mark.parametrize(("ids", "expected"), [((7, 9), (1, 44, 47, 7, 9)), ((1, 9), (1, 44, 47, 48, 9))])
def test_new_classes_have_the_ids_of_the_data_where_these_are_free(
    squares: DetectionDataset, ids: tuple[int, int], expected: tuple[int, ...]
) -> None:
    classes = add_classes(OLD, (1, 44, 47), named(squares, "drone", "kite", ids=ids), "DATA")
    assert classes.category_ids == expected
    assert classes.kept == (0, 1, 2)
    assert len(classes.describe()) == 1


def test_a_known_class_without_a_box_is_not_labelled(squares: DetectionDataset) -> None:
    first = replace(named(squares, "drone", "cup"), ignore=squares.labels == 1)
    assert add_classes(OLD, (), first, "DATA").kept == (0, 1, 2)


def test_data_without_a_new_class_are_rejected(squares: DetectionDataset) -> None:
    with pytest.raises(UserError, match="--data"):
        add_classes(OLD, (), named(squares, "Person", "cup"), str(Path("DATA")))
