from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.data.small_dataset import make_target
from yolofpn.data.visibility import cut_target
from yolofpn.structures import Target


def stay(boxes: Tensor) -> Tensor:
    return boxes


def cut_to_width(width: float, target: Target) -> Target:
    return cut_target(target, stay, (0, 0, width, 100), min_visibility=0.25)


def test_an_object_needs_a_quarter_of_its_box() -> None:
    target = make_target([[0, 0, 100, 50]])
    whole = cut_to_width(25, target)
    assert whole.boxes.tolist() == [[0, 0, 25, 50]] and whole.ignore.tolist() == [False]


def test_what_is_left_of_less_becomes_a_region_to_ignore_as_large_as_is_visible() -> None:
    target = make_target([[0, 0, 100, 50], [0, 10, 20, 40]], labels=[2, 1])
    rest = cut_to_width(24, target)
    assert rest.boxes.tolist() == [[0, 0, 24, 50], [0, 10, 20, 40]]
    assert rest.ignore.tolist() == [True, False] and rest.labels.tolist() == [2, 1]
    assert rest.areas.tolist() == [600, 300]
    # A region stays one, however much of it a later cut leaves.
    again = cut_target(rest, stay, (0, 0, 23, 100), min_visibility=0.25)
    assert again.boxes.tolist() == [[0, 0, 23, 50], [0, 10, 20, 40]] and again.ignore.tolist() == [True, False]


def test_an_object_needs_two_pixels_of_each_side() -> None:
    target = make_target([[0, 0, 4, 40]])
    assert len(cut_to_width(1.9, target)) == 0
    assert cut_to_width(2, target).boxes.tolist() == [[0, 0, 2, 40]]
    target = make_target([[0, 0, 40, 1.5]])
    assert len(cut_to_width(100, target)) == 0


def test_an_ignore_region_stays_however_small_a_part_of_it_is_left() -> None:
    target = make_target([[0, 0, 100, 50]], labels=[1], ignore=[True])
    rest = cut_to_width(3, target)
    assert rest.boxes.tolist() == [[0, 0, 3, 50]]
    assert rest.ignore.tolist() == [True] and rest.labels.tolist() == [1]
    assert len(cut_to_width(1, target)) == 0


def test_what_lies_outside_goes_and_the_rest_stays_in_line() -> None:
    boxes = [
        [200.0, 0.0, 220.0, 20.0],
        [10.0, 10.0, 20.0, 30.0],
        [90.0, 0.0, 110.0, 10.0],
        [-50.0, -50.0, -10.0, -10.0],
    ]
    rest = cut_to_width(100, make_target(boxes, labels=[3, 1, 2, 0]))
    assert rest.boxes.tolist() == [[10, 10, 20, 30], [90, 0, 100, 10]]
    assert rest.labels.tolist() == [1, 2] and not rest.ignore.any()
    assert rest.areas.tolist() == [100, 50]  # half of the box, before and after the cut
    assert rest.image_id == 7


def test_areas_follow_scale_and_cut() -> None:
    target = make_target([[10, 10, 30, 30]])  # 400 square pixels, of which the mask has 200

    def double(boxes: Tensor) -> Tensor:
        return boxes * 2  # 20..60

    assert cut_target(target, double, (0, 0, 100, 100), min_visibility=0.25).areas.tolist() == [800]
    assert cut_target(target, double, (0, 0, 40, 100), min_visibility=0.25).areas.tolist() == [400]


def test_whole_objects_survive_the_strictest_rule_despite_rounding() -> None:
    boxes = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 50
    boxes[:, 2:] += boxes[:, :2] + 2.5
    target = make_target(boxes.tolist())
    rest = cut_target(target, lambda boxes: boxes * 1.1 + 3.3, (0, 0, 200, 200), min_visibility=1.0)
    assert len(rest) == 500 and not rest.ignore.any()


def test_no_boxes() -> None:
    assert len(cut_to_width(10, make_target([]))) == 0


@pytest.mark.parametrize("min_side", [0, 2])
def test_pixels_need_not_remain_where_the_image_is_resized_later(min_side: float) -> None:
    target = make_target([[5, 5, 6, 6]])
    rest = cut_target(target, stay, (0, 0, 10, 10), min_visibility=1.0, min_side=min_side)
    assert len(rest) == (1 if min_side == 0 else 0)


def test_proposals_move_along_and_are_kept_while_something_of_them_is_visible() -> None:
    target = replace(
        make_target([[0, 0, 100, 50]]),
        proposals=torch.tensor([[0.0, 0, 100, 50], [80, 0, 100, 50], [0, 0, 9, 100], [0, 0, 1, 9]]),
    )
    rest = cut_target(target, lambda boxes: boxes + 10, (0, 0, 60, 100), min_visibility=0.25)
    assert rest.boxes.tolist() == [[10, 10, 60, 60]] and rest.proposals is not None
    assert rest.proposals.tolist() == [[10, 10, 60, 60], [10, 10, 19, 100]]  # one is outside, one too narrow
    nothing = cut_target(replace(target, proposals=torch.zeros(0, 4)), stay, (0, 0, 60, 100), min_visibility=0.25)
    assert nothing.proposals is not None and nothing.proposals.shape == (0, 4)
    assert cut_target(make_target([]), stay, (0, 0, 60, 100), min_visibility=0.25).proposals is None
