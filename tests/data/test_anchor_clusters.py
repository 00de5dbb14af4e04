from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from tests.data.trees import voc_xml, write, write_image
from yolofpn.data.anchor_clusters import (
    anchor_fit,
    anchors_yaml,
    fit_anchors,
    kmeans_anchors,
    network_box_sizes,
    poor_fit_warning,
    size_iou,
    split_by_level,
)
from yolofpn.data.formats.voc_xml import read_voc
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError
from yolofpn.ops.boxes import box_iou


def test_the_iou_of_sizes_is_that_of_boxes_with_one_corner() -> None:
    rng = np.random.default_rng(0)
    sizes, anchors = rng.uniform(1, 100, (20, 2)), rng.uniform(1, 100, (6, 2))
    boxes = [torch.from_numpy(np.column_stack([np.zeros_like(wh), wh])) for wh in (sizes, anchors)]
    assert np.allclose(size_iou(sizes, anchors), box_iou(*boxes).numpy())


def test_the_fit_of_two_anchors_by_hand() -> None:
    sizes = np.array([[10.0, 10], [10, 5], [100, 100], [40, 10]])
    fit = anchor_fit(sizes, np.array([[10.0, 10], [100, 50]]))
    # Best IoUs: 1, 50 / 100, 5000 / 10000, 100 / 400: three of four reach one half.
    assert fit.best_possible_recall == 0.75
    assert fit.mean_iou == pytest.approx((1 + 0.5 + 0.5 + 0.25) / 4)


def test_k_means_finds_the_centres_of_clear_clusters() -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[10.0, 20], [50, 40], [60, 200], [300, 250]])
    sizes = np.concatenate([centre * rng.uniform(0.95, 1.05, (50, 2)) for centre in centres])
    means = sizes.reshape(4, 50, 2).mean(axis=1)
    assert np.allclose(kmeans_anchors(rng.permutation(sizes), 4), means)


def test_k_means_beats_any_random_choice_of_boxes() -> None:
    rng = np.random.default_rng(4)
    sizes = np.exp(rng.normal(3.5, 0.8, (400, 2)))
    fitted = anchor_fit(sizes, kmeans_anchors(sizes, 6)).mean_iou
    assert all(anchor_fit(sizes, rng.choice(sizes, 6)).mean_iou < fitted for _ in range(50))


def test_k_means_is_the_same_for_the_same_seed() -> None:
    sizes = np.random.default_rng(5).uniform(5, 200, (300, 2))
    assert np.array_equal(kmeans_anchors(sizes, 9, seed=1), kmeans_anchors(sizes, 9, seed=1))
    assert not np.array_equal(kmeans_anchors(sizes, 9, seed=1), kmeans_anchors(sizes, 9, seed=2))


@pytest.mark.parametrize("sizes", [[[30.0, 40]], [[30.0, 40]] * 7, [[30.0, 40], [10, 10]]])
def test_fewer_sizes_than_anchors_still_give_all_anchors(sizes: list[list[float]]) -> None:
    anchors = kmeans_anchors(np.array(sizes), 9)
    assert anchors.shape == (9, 2)
    assert np.isfinite(anchors).all()
    assert (anchors > 0).all()
    assert anchor_fit(np.array(sizes), anchors).mean_iou == pytest.approx(1)


def test_no_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="no boxes"):
        kmeans_anchors(np.zeros((0, 2)), 9)
    with pytest.raises(ValueError, match="no boxes"):
        anchor_fit(np.zeros((0, 2)), np.ones((1, 2)))


def test_boxes_are_scaled_as_letterbox_does_and_ignore_regions_are_left_out(tmp_path: Path) -> None:
    wide = write_image(tmp_path / "wide.png", height=50, width=200)
    tall = write_image(tmp_path / "tall.png", height=400, width=100)
    write(tmp_path / "wide.xml", voc_xml([("dog", (1, 1, 100, 10))], size=(50, 200)))
    difficult = voc_xml([("dog", (1, 1, 50, 50))], extra="<difficult>1</difficult>", size=(400, 100))
    plain = voc_xml([("dog", (1, 1, 30, 40))], size=(400, 100))
    objects = difficult.split("</size>")[1].removesuffix("</annotation>")
    write(tmp_path / "tall.xml", plain.replace("</annotation>", objects + "</annotation>"))
    dataset = read_voc([wide, tall], [tmp_path / "wide.xml", tmp_path / "tall.xml"], ["dog"])
    assert len(dataset.boxes) == 3
    # 200 x 50 into 100 x 400: by 1/2; 100 x 400 into 100 x 400: as it is.
    assert network_box_sizes(dataset, (400, 100)).tolist() == [[50, 5], [30, 40]]


def test_levels_are_written_finest_first() -> None:
    anchors = np.array([[10.4, 12.6], [20, 20], [0.2, 90], [100, 80], [150, 120], [300, 299.5]])
    text = anchors_yaml(split_by_level(anchors, 3))
    assert text == "anchors: [[[10, 13], [20, 20]], [[1, 90], [100, 80]], [[150, 120], [300, 300]]]"
    assert YAML(typ="safe").load(text)["anchors"][2] == [[150, 120], [300, 300]]
    with pytest.raises(ValueError, match="6 anchors"):
        split_by_level(anchors, 4)


def test_only_anchors_that_fit_badly_are_warned_of() -> None:
    rng = np.random.default_rng(6)
    sizes = rng.uniform(10, 40, (200, 2))
    assert poor_fit_warning(sizes, kmeans_anchors(sizes, 6)) is None
    assert poor_fit_warning(np.zeros((0, 2)), np.ones((6, 2))) is None
    warning = poor_fit_warning(sizes, np.array([[200.0, 200], [300, 300]]))
    assert warning is not None
    assert "best possible recall 0.000" in warning


@pytest.mark.slow
def test_anchors_of_bccd(data_dir: Path) -> None:
    root = data_dir / "bccd" / "BCCD"
    old = [[(10.0, 14.0), (23.0, 27.0)], [(37.0, 58.0), (81.0, 82.0)]]
    lines = fit_anchors(root, split="val", num_anchors=6, num_levels=2, current=old)
    levels = YAML(typ="safe").load(lines[-1])["anchors"]
    assert [len(level) for level in levels] == [3, 3]
    anchors = np.array(levels, dtype=float).reshape(-1, 2)
    sizes = network_box_sizes(open_data(root).load("val"), (416, 416))
    fitted, current = (anchor_fit(sizes, each) for each in (anchors, np.array(old).reshape(-1, 2)))
    assert fitted.mean_iou > current.mean_iou + 0.05
    assert f"current anchors: {current}" in lines


def test_anchors_that_cannot_be_divided_are_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"8 anchors .*3 levels"):
        fit_anchors(tmp_path, num_anchors=8, num_levels=3)
