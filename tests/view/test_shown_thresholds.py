from __future__ import annotations

import numpy as np
import pytest
import torch

from yolofpn.ops.nms import batched_nms
from yolofpn.structures import Detections, Limits
from yolofpn.view.shown_thresholds import LOWEST, ShownThresholds, above, lowered


def scored(*scores: float, labels: tuple[int, ...] | None = None) -> Detections:
    count = len(scores)
    return Detections(torch.zeros(count, 4), torch.tensor(scores), torch.tensor(labels or (0,) * count))


def shown(thresholds: ShownThresholds, *scores: float) -> list[float]:
    return [round(score, 2) for score in thresholds.filter(scored(*scores)).scores.tolist()]


def test_keys_move_the_threshold_in_steps() -> None:
    thresholds = ShownThresholds(Limits(score_thresh=0.25))
    scores = (0.9, 0.32, 0.28, 0.22, 0.06)
    assert (str(thresholds), shown(thresholds, *scores)) == (".25", [0.9, 0.32, 0.28])
    thresholds.move(1)
    assert (str(thresholds), shown(thresholds, *scores)) == (".30", [0.9, 0.32])
    thresholds.move(-2)
    assert (str(thresholds), shown(thresholds, *scores)) == (".20", [0.9, 0.32, 0.28, 0.22])


@pytest.mark.parametrize(("steps", "shown_as"), [(-1, ".05"), (1, ".95")])
def test_no_key_is_lost_at_the_ends(steps: int, shown_as: str) -> None:
    thresholds = ShownThresholds(Limits(score_thresh=0.25))
    for _ in range(99):
        thresholds.move(steps)
    assert str(thresholds) == shown_as
    thresholds.move(-steps)
    assert str(thresholds) == {".05": ".10", ".95": ".90"}[shown_as]


@pytest.mark.parametrize("own", [0.001, 0.99])
def test_a_run_beyond_the_ends_keeps_its_own_threshold(own: float) -> None:
    thresholds = ShownThresholds(Limits(score_thresh=own))
    thresholds.move(-1 if own < LOWEST else 1)
    assert len(shown(thresholds, 0.995, 0.0015)) == (2 if own < LOWEST else 1)


def test_thresholds_per_class_move_together_and_unwanted_classes_stay_out() -> None:
    thresholds = ShownThresholds(Limits(score_thresh=(0.25, 0.5, 1.0)))
    found = scored(0.99, 0.52, 0.28, labels=(2, 1, 0))
    assert thresholds.filter(found).labels.tolist() == [1, 0]
    thresholds.move(1)
    assert thresholds.filter(found).labels.tolist() == []
    assert str(thresholds) == "+0.05"
    assert lowered(Limits(score_thresh=(0.25, 0.01, 1.0))).score_thresh == (LOWEST, 0.01, 1.0)


def test_lower_limits_change_only_the_scores() -> None:
    limits = Limits(score_thresh=0.4, nms_thresh=0.3, detections_per_img=7)
    assert lowered(limits) == Limits(score_thresh=LOWEST, nms_thresh=0.3, detections_per_img=7)


def test_filtering_afterwards_is_the_same_as_before_nms() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(400, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 20 + torch.rand(400, 2, generator=generator) * 20], dim=1)
    scores, labels = torch.rand(400, generator=generator), torch.randint(3, (400,), generator=generator)

    def detect(score_thresh: float) -> Detections:
        keep = scores > score_thresh
        kept = batched_nms(boxes[keep], scores[keep], labels[keep], 0.45)
        return Detections(boxes[keep][kept], scores[keep][kept], labels[keep][kept])

    late, early = above(detect(LOWEST), 0.5), detect(0.5)
    assert len(early) > 10
    assert np.array_equal(late.boxes, early.boxes)
    assert np.array_equal(late.scores, early.scores)
