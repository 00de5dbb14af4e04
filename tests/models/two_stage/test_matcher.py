"""Who learns what: worked out by hand, and against loops over candidates and boxes."""

from __future__ import annotations

import pytest
import torch

from tests.models.cases import make_target
from yolofpn.models.two_stage.matcher import BACKGROUND, IGNORED, BalancedSampler, Matcher
from yolofpn.structures import Target


def iou_slowly(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def match_slowly(candidates: torch.Tensor, target: Target, positive: float, negative: float, best: bool) -> list[int]:
    table = [[iou_slowly(c, b) for b in target.boxes.tolist()] for c in candidates.tolist()]
    highest = [max(row[j] for row in table) for j in range(len(target))]
    matched = []
    for row in table:
        top = max(row)
        of_the_best = best and any(value == most > 0 for value, most in zip(row, highest, strict=True))
        if top >= positive or of_the_best:
            matched.append(row.index(top))
        else:
            matched.append(IGNORED if top >= negative else BACKGROUND)
    return matched


@pytest.mark.parametrize("best", [False, True])
def test_against_loops(best: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator, dtype=torch.float64) * 60
    candidates = torch.cat([corners, corners + 10 + torch.rand(300, 2, generator=generator) * 30], dim=1)
    boxes = candidates[:6] + torch.rand(6, 4, generator=generator) * 4
    target = Target(boxes, torch.zeros(6).long(), torch.zeros(6).bool(), torch.ones(6))
    matched = Matcher(0.7, 0.3, keep_best=best)(candidates, target)
    expected = match_slowly(candidates, target, 0.7, 0.3, best)
    assert matched.tolist() == expected
    assert {BACKGROUND, IGNORED} < set(expected)  # all kinds occur


def test_thresholds_by_hand() -> None:
    target = make_target([(0, 0, 10, 10)])
    candidates = torch.tensor([(0, 0, 10, 10), (0, 0, 10, 7), (0, 0, 10, 5), (0, 0, 10, 3), (0, 0, 10, 2)]).float()
    # IoU 1, .7, .5, .3, .2: a threshold itself belongs to what is above it
    assert Matcher(0.7, 0.3)(candidates, target).tolist() == [0, 0, IGNORED, IGNORED, BACKGROUND]
    assert Matcher(0.5, 0.5)(candidates, target).tolist() == [0, 0, 0, BACKGROUND, BACKGROUND]


def test_the_best_candidates_of_a_box_learn_it() -> None:
    target = make_target([(0, 0, 10, 10), (100, 100, 110, 110)])
    candidates = torch.tensor([(0, 0, 10, 2), (0, 8, 10, 10), (0, 0, 10, 1)]).float()
    # the first two overlap the first box equally; the second box overlaps nothing, so it has no best candidate
    assert Matcher(0.7, 0.3, keep_best=True)(candidates, target).tolist() == [0, 0, BACKGROUND]
    assert Matcher(0.7, 0.3)(candidates, target).tolist() == [BACKGROUND] * 3


def test_regions_to_ignore_are_no_background_and_no_object() -> None:
    target = make_target([(0, 0, 10, 10), (50, 50, 90, 90)], ignore=[False, True])
    candidates = torch.tensor([(0, 0, 10, 10), (55, 55, 65, 65), (20, 20, 30, 30), (45, 50, 55, 60)]).float()
    # the last one lies in the region by half, not by more
    assert Matcher(0.7, 0.3)(candidates, target).tolist() == [0, IGNORED, BACKGROUND, BACKGROUND]


def test_indices_count_the_regions_to_ignore() -> None:
    target = make_target([(50, 50, 90, 90), (0, 0, 10, 10)], ignore=[True, False])
    assert Matcher(0.5, 0.5)(torch.tensor([[0.0, 0, 10, 10]]), target).tolist() == [1]


@pytest.mark.parametrize("boxes", [[], [(5, 5, 5, 9)], [(5, 5, 9, 5)], [(9, 9, 5, 5)]])
def test_without_a_usable_box_all_is_background(boxes: list[tuple[float, ...]]) -> None:
    matched = Matcher(0.7, 0.3, keep_best=True)(torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 9]]), make_target(boxes))
    assert matched.tolist() == [BACKGROUND, BACKGROUND]


def test_no_candidates() -> None:
    assert Matcher(0.7, 0.3, keep_best=True)(torch.zeros(0, 4), make_target([(0, 0, 9, 9)])).tolist() == []


def test_sampler_fills_up_with_background() -> None:
    matched = torch.tensor([0, BACKGROUND, IGNORED, 2, BACKGROUND, BACKGROUND, 1, BACKGROUND])
    positive, background = BalancedSampler(4, 0.25)(matched)
    assert len(positive) == 1 and set(positive.tolist()) <= {0, 3, 6}
    assert len(background) == 3 and len(set(background.tolist())) == 3 and set(background.tolist()) <= {1, 4, 5, 7}
    positive, background = BalancedSampler(100, 0.5)(matched)
    assert (positive.tolist(), background.tolist()) == ([0, 3, 6], [1, 4, 5, 7])


def test_sampler_draws_from_torch_and_reaches_all() -> None:
    matched = torch.zeros(20, dtype=torch.int64)
    sampler = BalancedSampler(8, 0.5)
    torch.manual_seed(3)
    first = sampler(matched)[0]
    torch.manual_seed(3)
    assert sampler(matched)[0].tolist() == first.tolist()
    drawn = {index for _ in range(50) for index in sampler(matched)[0].tolist()}
    assert drawn == set(range(20))
