"""Assignment: cases worked out by hand for the best anchor, a slow loop over every pair for SimOTA."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from tests.models.cases import SIZE, SPECS, make_target, random_maps
from yolofpn.models.heads.assigner import (
    Assignment,
    BestAnchorAssigner,
    SimOTAAssigner,
    best_anchor_of_each_box,
    cells_that_reach,
    classification_cost,
    covered_by_ignore_regions,
)
from yolofpn.models.heads.predictions import Grid, flatten_maps, make_grid
from yolofpn.models.postprocess import MapSpec
from yolofpn.structures import Target

# SPECS on 64 x 96: p4 has 6 columns x 4 rows and the anchors 10x14 (predictions 0..23) and 24x20 (24..47),
# p5 has 3 columns x 2 rows and the anchors 60x40 (48..53) and 50x70 (54..59).
GRID = make_grid(list(SPECS.values()), [(4, 6), (2, 3)])
N = 60


def nothing() -> Tensor:
    """Raw predictions [N, 5 + 2] of zeros: each box is its anchor in the middle of its cell."""
    return torch.zeros(N, 7)


def pairs(assignment: Assignment) -> dict[int, int]:
    """Prediction -> ground-truth box."""
    matched = dict(zip(assignment.positive.tolist(), assignment.matched.tolist(), strict=True))
    assert len(matched) == len(assignment.positive), "each prediction at most once"
    return matched


@pytest.mark.parametrize(
    ("box", "prediction"),
    [
        # 10 x 14 at (40, 24): anchor 0; stride 16, column 2, row 1 -> 1 * 6 + 2.
        ((35, 17, 45, 31), 8),
        # 24 x 20, the same centre: anchor 1 starts at 24.
        ((28, 14, 52, 34), 32),
        # 60 x 40 at (64, 32): stride 32, column 2, row 1 -> 48 + 1 * 3 + 2; a centre between cells belongs to the next.
        ((34, 12, 94, 52), 53),
        # 50 x 60 at (30, 31): with 50x70 the IoU is 60 / 70 = .86, with 60x40 2000 / 3400 = .59; column 0, row 0.
        ((5, 1, 55, 61), 54),
        # Width 20, height 16: with 24x20 it is 320 / 480 = .67, with 10x14 140 / 320 = .44. Centre (10, 8).
        ((0, 0, 20, 16), 24),
        # Centre on the right and lower border, (96, 64): the last column and row, 3 * 6 + 5.
        ((91, 57, 101, 71), 23),
        # Centre in the upper left corner, (0, 0).
        ((-5, -7, 5, 7), 0),
        # Centre beyond the border, (101, -2): the nearest cell, column 5 of row 0.
        ((96, -9, 106, 5), 5),
    ],
)
def test_the_best_anchor_in_the_boxs_own_cell(box: tuple[float, ...], prediction: int) -> None:
    assert best_anchor_of_each_box(torch.tensor([box]), GRID).tolist() == [prediction]
    assert pairs(BestAnchorAssigner()(nothing(), GRID, make_target([box]))) == {prediction: 0}


def test_no_boxes_have_no_best_anchor() -> None:
    assert best_anchor_of_each_box(torch.zeros(0, 4), GRID).tolist() == []


def test_predictions_that_overlap_a_box_are_not_taught_to_be_background() -> None:
    # Prediction 48 is the box 60 x 40 about (16, 16): (-14, -4) to (46, 36), and 49 the same one 32 px to the right.
    # The target is 49's shifted by 20 px: overlap 40 * 40 of 2 * 2400 - 1600 -> IoU .5 with 49, which is not above .5,
    # and its centre (68, 16) lies in column 2, whose prediction 50 is 12 px away: 48 * 40 / (4800 - 1920) = .667.
    target = make_target([(38, -4, 98, 36)])
    assignment = BestAnchorAssigner(0.5)(nothing(), GRID, target)
    assert pairs(assignment) == {50: 0}
    # Of the anchor 50x70 about (80, 16), (55, -19) to (105, 51): 43 * 40 = 1720 of 2400 + 3500 - 1720 = 4180 -> .41.
    assert assignment.ignored.nonzero().flatten().tolist() == [50]
    assert BestAnchorAssigner(0.499)(nothing(), GRID, target).ignored.nonzero().flatten().tolist() == [49, 50]
    assert not BestAnchorAssigner(0.667)(nothing(), GRID, target).ignored.any()


def test_two_thresholds_teach_the_near_and_leave_the_middle_alone() -> None:
    # The same target: IoU .667 with 50 (its own), .5 with 49, .41 with 56 (50x70 in column 2); with 53, one row below
    # 50 (32 px): 48 * 8 = 384 of 4416 -> .09. 57 (50x70, row 1, column 0), 58, 59: (55, 13) to (105, 83), 43 * 23 = 989
    # of 4911 -> .20. 55: (23, -19) to (73, 51), 35 * 40 = 1400 of 4500 -> .31.
    target = make_target([(38, -4, 98, 36)])
    dual = BestAnchorAssigner(0.3, 0.7)(nothing(), GRID, target)
    assert pairs(dual) == {50: 0}
    assert dual.ignored.nonzero().flatten().tolist() == [49, 50, 55, 56]
    lower = BestAnchorAssigner(0.3, 0.45)(nothing(), GRID, target)
    assert pairs(lower) == {49: 0, 50: 0}
    # A target just 3 px from prediction 49 teaches it at .7 too: 57 * 40 / (4800 - 2280) = .905.
    assert pairs(BestAnchorAssigner(0.3, 0.7)(nothing(), GRID, make_target([(21, -4, 81, 36)]))) == {49: 0}


def test_a_near_prediction_learns_the_box_that_it_overlaps_most_but_a_boxs_own_comes_first() -> None:
    # Both boxes lie within column 1 of row 0 at p5; box 0 is prediction 49 itself, box 1 is 4 px to the left and
    # comes later: the anchor is its own. Prediction 49 would overlap box 0 more.
    target = make_target([(18, -4, 78, 36), (14, -4, 74, 36)])
    assert pairs(BestAnchorAssigner(0.3, 0.7)(nothing(), GRID, target)) == {49: 1}


def test_of_two_boxes_that_want_one_prediction_the_later_gets_it() -> None:
    boxes = [(35, 17, 45, 31), (36, 17, 46, 31), (34, 17, 44, 31)]
    assert pairs(BestAnchorAssigner()(nothing(), GRID, make_target(boxes))) == {8: 2}


@pytest.mark.parametrize("assigner", [BestAnchorAssigner(), BestAnchorAssigner(0.3, 0.7), SimOTAAssigner()])
class TestWhatIsNoObject:
    def test_an_empty_image_has_no_positives_and_ignores_nothing(
        self, assigner: BestAnchorAssigner | SimOTAAssigner
    ) -> None:
        assignment = assigner(nothing(), GRID, make_target([]))
        assert assignment.positive.dtype == assignment.matched.dtype == torch.int64
        assert pairs(assignment) == {}
        assert not assignment.ignored.any()

    def test_a_region_to_ignore_teaches_nothing_within_it(self, assigner: BestAnchorAssigner | SimOTAAssigner) -> None:
        # The left 40 px of the image. At p4, stride 16, the boxes of anchor 10x14 about x = 8, 24 lie within, those
        # of 24x20 too (24 + 12 = 36); about x = 40 exactly half of both lies within, which is not more than half.
        # At p5 60x40 about x = 16: 54 of 60 px, about 48: 22 of 60; 50x70 about 16: 49 of 50, about 48: 17 of 50.
        # The region is higher than the image, so that it holds the full height of all boxes.
        target = make_target([(-20, -50, 40, 120)], ignore=[True])
        assignment = assigner(nothing(), GRID, target)
        assert pairs(assignment) == {}
        columns, strides = GRID.cells[:, 0], GRID.strides[:, 0]
        expected = ((strides == 16) & (columns <= 1)) | ((strides == 32) & (columns == 0))
        assert torch.equal(assignment.ignored, expected)

    def test_an_object_within_a_region_is_learnt_as_anywhere(
        self, assigner: BestAnchorAssigner | SimOTAAssigner
    ) -> None:
        """The region is all of the image, as what is left of a large object may fill all of its part of a mosaic."""
        box = (35, 17, 45, 31)
        alone = assigner(nothing(), GRID, make_target([box]))
        within = assigner(nothing(), GRID, make_target([(0, 0, 96, 64), box], ignore=[True, False]))
        assert pairs(within) == pairs(alone) != {}
        assert within.ignored.sum() > alone.ignored.sum()

    def test_boxes_count_without_the_regions_between_them(self, assigner: BestAnchorAssigner | SimOTAAssigner) -> None:
        """``matched`` counts the boxes that are not ignored: here 0 is the third of the target."""
        boxes = [(0, 0, 20, 16), (60, 40, 90, 60), (35, 17, 45, 31)]
        assignment = assigner(nothing(), GRID, make_target(boxes, ignore=[True, True, False]))
        assert set(pairs(assignment).values()) == {0}
        assert 8 in pairs(assignment)


def test_more_than_half_of_a_box_lies_in_a_region() -> None:
    predicted = torch.tensor([[0.0, 0, 10, 10], [6, 0, 16, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    # Of the second 4 of 10 lie in the first region and 6 in the other: more than half in one region counts.
    target = make_target([(0, 0, 10, 10), (10, 0, 50, 10)], ignore=[True, True])
    assert covered_by_ignore_regions(predicted, target).tolist() == [True, True, False, False, False]


# --- SimOTA


def reference_cost(values: list[float], label: int, *, softmax: bool) -> float:
    """Binary cross-entropy of sqrt(objectness x class score) against the label, summed over the classes."""
    sigmoids = [1 / (1 + math.exp(-v)) for v in values]
    scores = [math.exp(v) / sum(math.exp(u) for u in values[5:]) for v in values[5:]] if softmax else sigmoids[5:]
    joint = [math.sqrt(sigmoids[4] * score) for score in scores]
    return -sum(math.log(p if c == label else 1 - p) for c, p in enumerate(joint))


def reference_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def reference_simota(
    raw: Tensor, grid: Grid, target: Target, top: int, iou_weight: float
) -> dict[int, list[tuple[float, int]]]:
    """Prediction -> cost and number of each box that wants it, by loops over all pairs."""
    predicted = grid.decode(raw[:, :4]).tolist()
    boxes = [box for box, ignore in zip(target.boxes.tolist(), target.ignore, strict=True) if not ignore]
    labels = [label for label, ignore in zip(target.labels.tolist(), target.ignore, strict=True) if not ignore]
    wishes: dict[int, list[tuple[float, int]]] = {}
    for m, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        reach = max(grid.scale_x_y, 1.0) / 2
        candidates = []
        for n in range(len(raw)):
            stride, (column, row) = grid.strides[n].item(), grid.cells[n].tolist()
            if abs(centre[0] / stride - column - 0.5) <= reach and abs(centre[1] / stride - row - 0.5) <= reach:
                iou = reference_iou(predicted[n], box)
                classes = reference_cost(raw[n].double().tolist(), label, softmax=grid.softmax)
                candidates.append((classes - iou_weight * math.log(max(iou, 1e-8)), n, iou))
        best = sorted((iou for _, _, iou in candidates), reverse=True)[:top]
        dynamic_k = max(int(sum(best)), 1)
        for cost, n, _ in sorted(candidates)[:dynamic_k]:
            wishes.setdefault(n, []).append((cost, m))
    return wishes


def crowded_target(seed: int, count: int) -> Target:
    """Boxes that compete: close to each other, some sticking out of the image, the last one to be ignored."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([40.0, 40.0]) + torch.tensor([20.0, 5.0])
    half = torch.rand(count, 2, generator=generator) * 25 + 6
    labels = torch.randint(0, 2, (count,), generator=generator).tolist()
    boxes = torch.cat([centre - half, centre + half], dim=1).tolist()
    return make_target(boxes, labels, [False] * (count - 1) + [True])


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(("scale_x_y", "top", "iou_weight"), [(1.0, 10, 3.0), (2.0, 10, 3.0), (2.0, 3, 0.5)])
def test_simota_equals_a_loop_over_every_pair(scale_x_y: float, top: int, iou_weight: float, softmax: bool) -> None:
    specs = {name: MapSpec(s.stride, s.anchors, scale_x_y, softmax=softmax) for name, s in SPECS.items()}
    conflicts = several = 0
    assigner = SimOTAAssigner(top, iou_weight)
    for seed in range(12):
        maps = random_maps(specs, 2, SIZE, seed=seed)
        raw, grid = flatten_maps({name: m * 0.3 for name, m in maps.items()}, specs)
        target = crowded_target(seed, 9)
        wishes = reference_simota(raw[0], grid, target, top, iou_weight)
        expected = {n: min(wish)[1] for n, wish in wishes.items()}
        assignment = assigner(raw[0], grid, target)
        assert pairs(assignment) == expected
        assert torch.equal(assignment.ignored, covered_by_ignore_regions(grid.decode(raw[0, :, :4]), target))
        conflicts += any(len(wish) > 1 for wish in wishes.values())
        several += max(Counter(expected.values()).values()) > 1
    assert conflicts >= 3, "predictions that several boxes want are rare"
    assert several >= 3 or (scale_x_y, top) != (2.0, 10), "boxes that teach several predictions are rare"


def test_the_overlaps_add_up_to_the_number_of_predictions() -> None:
    # Centre (40, 24) is the middle of column 2, row 1 of p4 and lies in column 1, row 0 of p5. Anchor 10x14 (prediction
    # 8) fits exactly, 24x20 (32) by 140 / 480 = .29, 60x40 (49) by 140 / 2400 = .06, 50x70 (55) by 140 / 3500 = .04:
    # together 1.39 -> one prediction.
    assert pairs(SimOTAAssigner()(nothing(), GRID, make_target([(35, 17, 45, 31)]))) == {8: 0}
    # 24 x 20 about (40, 24): IoU 1 with 32, and .29 with 8. It lies within 60x40 about (48, 16), so .2 with 49
    # (480 / 2400), and within 50x70 there, so .14 with 55 (480 / 3500): together 1.63 -> still one.
    assert pairs(SimOTAAssigner()(nothing(), GRID, make_target([(28, 14, 52, 34)]))) == {32: 0}
    # Prediction 8 made as large as 24x20 brings the sum to 2.34 -> two, the cheapest.
    raw = nothing()
    raw[8, 2:4] = torch.tensor([2.4, 20 / 14]).log()
    assert pairs(SimOTAAssigner()(raw, GRID, make_target([(28, 14, 52, 34)]))) == {8: 0, 32: 0}
    # Of the best overlap alone there is one, and then the earlier of two that cost the same.
    assert pairs(SimOTAAssigner(top_candidates=1)(raw, GRID, make_target([(28, 14, 52, 34)]))) in ({8: 0}, {32: 0})


def test_cells_that_reach_a_centre() -> None:
    """(40, 24) is (2.5, 1.5) cells at p4 and (1.25, .75) at p5."""
    box = torch.tensor([[35.0, 17, 45, 31]])

    def reached(scale_x_y: float) -> set[tuple[int, int, int]]:
        specs = [MapSpec(s.stride, s.anchors, scale_x_y) for s in SPECS.values()]
        grid = make_grid(specs, [(4, 6), (2, 3)])
        (indices,) = cells_that_reach(box, grid)[0].nonzero(as_tuple=True)
        return {(int(grid.strides[n]), int(grid.cells[n, 0]), int(grid.cells[n, 1])) for n in indices}

    assert reached(1.0) == {(16, 2, 1), (32, 1, 0)}
    # 1.2: a tenth of a cell beyond the border: none of the others is that near.
    assert reached(1.2) == {(16, 2, 1), (32, 1, 0)}
    # 2: half a cell beyond: at p4 the centre is exactly so far from all neighbours; at p5 columns 0, 1 and rows 0, 1.
    p4 = {(16, column, row) for column in (1, 2, 3) for row in (0, 1, 2)}
    assert reached(2.0) == p4 | {(32, column, row) for column in (0, 1) for row in (0, 1)}


@pytest.mark.parametrize("sure", [8, 9])
def test_a_centre_between_two_cells_belongs_to_both(sure: int) -> None:
    """(48, 24) lies between columns 2 and 3 of p4, predictions 8 and 9."""
    raw = nothing()
    raw[:, 4] = -20
    raw[sure, 4:] = torch.tensor([20.0, 20.0, -20.0])
    assert pairs(SimOTAAssigner()(raw, GRID, make_target([(43, 17, 53, 31)]))) == {sure: 0}


def test_a_box_beyond_every_cell_teaches_nothing() -> None:
    assert pairs(SimOTAAssigner()(nothing(), GRID, make_target([(200, 200, 220, 220)]))) == {}
    both = make_target([(200, 200, 220, 220), (35, 17, 45, 31)])
    assert pairs(SimOTAAssigner()(nothing(), GRID, both)) == {8: 1}


def test_classification_cost_by_hand() -> None:
    # Objectness 1/2 (t = 0), classes 1/2 and 3/4: joint sqrt(1/4) = .5 and sqrt(3/8) = .6124.
    raw = torch.tensor([[0, 0, 0, 0, 0, 0, math.log(3)]])
    cost = classification_cost(raw, torch.tensor([0, 1]))
    p0, p1 = 0.5, math.sqrt(3 / 8)
    assert cost[0].item() == pytest.approx(-math.log(p0) - math.log(1 - p1))
    assert cost[1].item() == pytest.approx(-math.log(p1) - math.log(1 - p0))
    # Softmax: 1/4 and 3/4.
    p0, p1 = math.sqrt(1 / 8), math.sqrt(3 / 8)
    soft = classification_cost(raw, torch.tensor([0]), softmax=True)
    assert soft.item() == pytest.approx(-math.log(p0) - math.log(1 - p1))


def test_costs_stay_finite_where_scores_are_saturated() -> None:
    raw = torch.full((1, 7), 200.0)
    raw[0, 6] = -200
    assert classification_cost(raw, torch.tensor([0, 1])).isfinite().all()
    assert pairs(SimOTAAssigner()(raw.expand(N, 7), GRID, make_target([(35, 17, 45, 31)])))
