from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.ops.formats import xywh_to_xyxy
from yolofpn.ops import nms as nms_module
from yolofpn.ops.boxes import box_iou
from yolofpn.ops.near_boxes import NearBoxes
from yolofpn.ops.tensor_nms import batched_nms, nms


def reference_iou(first: Sequence[float], second: Sequence[float]) -> float:
    width = max(min(first[2], second[2]) - max(first[0], second[0]), 0.0)
    height = max(min(first[3], second[3]) - max(first[1], second[1]), 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (first, second)]
    union = areas[0] + areas[1] - width * height
    return width * height / union if union > 0 else 0.0


def reference_distance(first: Sequence[float], second: Sequence[float], exponent: float | None) -> float:
    """What Darknet's programs subtract from the IoU: ``box_diounms`` of box.c, in its words."""
    if exponent is None:
        return 0.0
    width = max(first[2], second[2]) - min(first[0], second[0])
    height = max(first[3], second[3]) - min(first[1], second[1])
    c = width * width + height * height
    if c == 0:
        return 0.0
    (ax, ay), (bx, by) = (((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (first, second))
    return float((((ax - bx) ** 2 + (ay - by) ** 2) / c) ** exponent)


def reference_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms_thresh: float, exponent: float | None = None
) -> list[int]:
    """Greedy suppression as it is told: one box after the other, in plain Python."""
    rows, values, classes = boxes.tolist(), scores.tolist(), labels.tolist()
    kept: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: (-values[index], index)):
        rivals = (other for other in kept if classes[other] == classes[index])
        overlaps = (
            reference_iou(rows[other], rows[index]) - reference_distance(rows[other], rows[index], exponent)
            for other in rivals
        )
        if all(overlap <= nms_thresh for overlap in overlaps):
            kept.append(index)
    return kept


def clusters(count: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes as a detector gives them: heaps around a few objects, scores with ties, frequent and rare classes."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.rand(6, 4, generator=generator) * 200 + 10
    boxes = objects[torch.randint(0, 6, (count,), generator=generator)]
    boxes = xywh_to_xyxy(boxes * torch.exp(0.2 * torch.randn(count, 4, generator=generator)))
    scores = (torch.rand(count, generator=generator) * 100).round() / 100
    labels = (num_classes * torch.rand(count, generator=generator) ** 3).long()
    return boxes, scores, labels


@pytest.mark.parametrize("exponent", [0.6, 0.3, 2.0, 0.0])
def test_distances_agree_with_reference(exponent: float) -> None:
    boxes, scores, labels = clusters(250, 2, seed=250)
    boxes[-3:] = boxes[-1]  # equal boxes have no distance
    boxes[:2, 2:] = boxes[:2, :2]  # empty ones
    kept = batched_nms(boxes, scores, labels, 0.45, exponent)
    assert kept.tolist() == reference_nms(boxes, scores, labels, 0.45, exponent)


def test_distance_by_hand() -> None:
    # IoU 50 / 150 = .333; the centres are 5 apart, the box around both is 15 x 10: d2 / c2 = 25 / 325.
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10]]), torch.tensor([0.9, 0.8])
    labels, overlap = torch.zeros(2, dtype=torch.int64), 1 / 3 - (25 / 325) ** 0.6
    assert batched_nms(boxes, scores, labels, 0.1).tolist() == [0]
    assert batched_nms(boxes, scores, labels, overlap - 1e-6, 0.6).tolist() == [0]
    assert batched_nms(boxes, scores, labels, overlap + 1e-6, 0.6).tolist() == [0, 1]


def test_hand_worked_case() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],  # kept: best of its label
            [0.0, 0.0, 10.0, 9.0],  # IoU .9 with the first: dropped
            [0.0, 0.0, 10.0, 9.0],  # the same box, but another label: kept
            [0.0, 0.0, 10.0, 5.0],  # IoU .5 with the first is not above .5: kept
            [20.0, 20.0, 30.0, 30.0],  # alone: kept
        ]
    )
    scores = torch.tensor([0.6, 0.5, 0.9, 0.3, 0.7])
    labels = torch.tensor([1, 1, 0, 1, 1])
    kept = batched_nms(boxes, scores, labels, 0.5)
    assert kept.dtype == torch.int64
    assert kept.tolist() == [2, 4, 0, 3]
    # Without labels the third box comes first and drops the first two; .5 / .9 drops the fourth.
    assert nms(boxes, scores, 0.5).tolist() == [2, 4]


def test_dropped_box_drops_nothing() -> None:
    # b overlaps a, c overlaps b but not a: b is gone before it could drop c.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.4).tolist() == [0, 2]
    assert nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.4).tolist() == [1]


def test_equal_scores_go_by_index() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0]])
    assert nms(boxes, torch.full((3,), 0.5), 0.5).tolist() == [0, 2]
    assert nms(boxes.flip(0), torch.full((3,), 0.5), 0.5).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("nms_thresh", [0.0, 0.45, 0.7, 1.0])
@pytest.mark.parametrize(("count", "num_classes"), [(30, 3), (300, 80), (350, 4), (250, 1)])
def test_agrees_with_reference(count: int, num_classes: int, nms_thresh: float) -> None:
    boxes, scores, labels = clusters(count, num_classes, seed=count)
    kept = batched_nms(boxes, scores, labels, nms_thresh)
    assert kept.tolist() == reference_nms(boxes, scores, labels, nms_thresh)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensors_stay_there() -> None:
    boxes, scores, labels = clusters(400, 5, seed=3)
    kept = batched_nms(boxes.cuda(), scores.cuda(), labels.cuda(), 0.45)
    assert kept.device == boxes.cuda().device
    assert kept.tolist() == reference_nms(boxes, scores, labels, 0.45)


grid = st.integers(0, 6)
candidate = st.tuples(st.tuples(grid, grid, grid, grid), st.integers(0, 3), st.integers(0, 2))


@pytest.mark.slow
@given(
    candidates=st.lists(candidate, max_size=40),
    nms_thresh=st.sampled_from([0.0, 1 / 3, 0.45, 0.5, 1.0]),
    scale=st.sampled_from([1.0, 0.1, 1e30]),
    front=st.integers(1, 5),
    many=st.sampled_from([0, 12]),
)
@settings(max_examples=80)
def test_agrees_with_reference_in_small_rounds(
    candidates: list[tuple[tuple[int, int, int, int], int, int]], nms_thresh: float, scale: float, front: int, many: int
) -> None:
    # Few places: many boxes are identical, empty, equal in score, or of an IoU that is the threshold.
    boxes = xywh_to_xyxy(torch.tensor([box for box, _, _ in candidates], dtype=torch.float32).reshape(-1, 4)) * scale
    scores = torch.tensor([score / 3 for _, score, _ in candidates])
    labels = torch.tensor([label for _, _, label in candidates], dtype=torch.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_module, "FEW", front)
        patch.setattr(nms_module, "MANY", many)
        patch.setattr(nms_module, "PAIRS_AT_ONCE", 3 * front)
        kept = batched_nms(boxes, scores, labels, nms_thresh)
    assert kept.tolist() == reference_nms(boxes, scores, labels, nms_thresh)


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 7])
@pytest.mark.parametrize("exponent", [None, 0.6])
def test_sizes_of_all_kinds_agree_with_reference(num_classes: int, exponent: float | None) -> None:
    # From 4 to 500 pixels, some long and thin, some far away: windows of the grid from one cell to all of them.
    generator = torch.Generator().manual_seed(num_classes)
    sides = 4 * torch.exp(4.8 * torch.rand(250, 2, generator=generator))
    corners = torch.rand(250, 2, generator=generator) * 300
    corners[::50] += 1e6
    boxes = torch.cat((corners, corners + sides), dim=1)
    scores = torch.rand(250, generator=generator)
    labels = torch.randint(0, num_classes, (250,), generator=generator)
    for nms_thresh in (0.0, 0.1, 0.45):
        kept = batched_nms(boxes, scores, labels, nms_thresh, exponent)
        assert kept.tolist() == reference_nms(boxes, scores, labels, nms_thresh, exponent)


@pytest.mark.parametrize("corner", [1e30, -3e38])
def test_a_far_box_does_not_spoil_the_grid_of_the_others(corner: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(250, 2, generator=generator) * 350
    boxes = torch.cat((corners, corners + 10), dim=1)
    far = torch.cat((boxes, torch.tensor([[corner, corner, corner / 2, corner / 2]]).sort().values))
    scores, labels = torch.rand(251, generator=generator), torch.zeros(251, dtype=torch.int64)

    def compared(boxes: Tensor) -> int:
        table = np.concatenate((boxes.double().numpy().T, np.ones((1, len(boxes)))))
        near = NearBoxes(table, np.zeros(len(boxes), np.int64), 0.45)
        return int(near.runs(np.arange(len(boxes))).length.sum())

    assert compared(far) < 2 * compared(boxes)
    assert nms(far, scores, 0.45).tolist() == reference_nms(far, scores, labels, 0.45)


@pytest.mark.parametrize("step", [4.0, 1.0])
def test_chain_is_settled_from_its_end(step: float) -> None:
    # Each box overlaps its neighbours only (step 4), or the next few: the slowest case for settling by passes.
    left = torch.arange(300) * step
    boxes = torch.stack((left, torch.zeros(300), left + 10, torch.full((300,), 10.0)), dim=1)
    scores = torch.linspace(1, 0.1, 300)
    labels = torch.zeros(300, dtype=torch.int64)
    kept = nms(boxes, scores, 0.4)
    assert kept.tolist() == reference_nms(boxes, scores, labels, 0.4)
    assert kept.tolist() == list(range(0, 300, 2 if step == 4.0 else 5))


def test_identical_boxes_leave_one_per_label() -> None:
    boxes = torch.tensor([[3.0, 4.0, 50.0, 60.0]]).repeat(1000, 1)
    scores = torch.full((1000,), 0.25)
    assert nms(boxes, scores, 0.99).tolist() == [0]
    assert batched_nms(boxes, scores, torch.arange(1000) % 7, 0.99).tolist() == list(range(7))
    assert nms(boxes, scores, 1.0).tolist() == list(range(1000))


def test_empty_boxes_overlap_nothing() -> None:
    boxes = torch.tensor([[5.0, 5.0, 5.0, 5.0]] * 3 + [[0.0, 0.0, 10.0, 10.0]] + [[9.0, 9.0, 2.0, 2.0]] * 2)
    assert nms(boxes, torch.ones(6), 0.0).tolist() == [0, 1, 2, 3, 4, 5]


def test_labels_are_compared_not_added() -> None:
    # Moving each label's boxes apart by an offset would round these to nothing.
    corner = torch.tensor([2.0**23, 2.0**23, 2.0**23, 2.0**23])
    boxes = corner + torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]]).repeat(2, 1)
    labels = torch.tensor([2**40, 2**40, 2**40, -(2**62), -(2**62), -(2**62)])
    assert batched_nms(boxes, torch.ones(6), labels, 0.5).tolist() == [0, 2, 3, 5]


def test_numbers_up_to_the_limits_of_float32() -> None:
    huge = 3e38
    boxes = torch.tensor([[0.0, 0.0, huge, huge], [0.0, 0.0, huge, huge * 0.9], [0.0, 0.0, huge, huge / 4]])
    assert nms(boxes, torch.tensor([0.1, 0.3, 0.2]), 0.5).tolist() == [1, 2]


def test_many_boxes_up_to_the_limits_of_float64() -> None:
    corner = torch.tensor([[-1.7e308, 1.0, -1.6e308, 2.0], [1.6e308, 1.0, 1.7e308, 2.0]], dtype=torch.float64)
    assert nms(corner.repeat(300, 1), torch.ones(600), 0.5).tolist() == [0, 1]


def test_float64_boxes_keep_their_digits() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5 + 1e-12]], dtype=torch.float64)
    assert nms(boxes, torch.ones(2), 0.5).tolist() == [0]
    assert nms(boxes, torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64), 0.5).tolist() == [1]


@pytest.mark.filterwarnings("error")
def test_infinite_boxes_have_no_iou() -> None:
    infinity = float("inf")
    boxes = torch.tensor([[-infinity, -infinity, infinity, infinity]] * 2 + [[0.0, 0.0, 1.0, 1.0]] * 2)
    assert nms(boxes, torch.ones(4), 0.5).tolist() == [0, 1, 2]


def test_many_labels_of_very_different_counts() -> None:
    boxes, scores, _ = clusters(600, 1, seed=5)
    labels = torch.cat((torch.zeros(300, dtype=torch.int64), torch.arange(300)))[
        torch.randperm(600, generator=torch.Generator().manual_seed(5))
    ]
    assert batched_nms(boxes, scores, labels, 0.3).tolist() == reference_nms(boxes, scores, labels, 0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision(dtype: torch.dtype) -> None:
    boxes, scores, labels = clusters(200, 5, seed=1)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    kept = batched_nms(boxes.requires_grad_(), scores.requires_grad_(), labels.int(), 0.45)
    assert kept.tolist() == reference_nms(boxes.detach(), scores.detach(), labels, 0.45)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_opencv(seed: int) -> None:
    boxes, _, _ = clusters(300, 1, seed)
    scores = torch.rand(300, generator=torch.Generator().manual_seed(seed))
    xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1)
    expected = cv2.dnn.NMSBoxes(xywh.tolist(), scores.tolist(), 0.0, 0.45)
    assert nms(boxes, scores, 0.45).tolist() == np.asarray(expected).tolist()


def test_result_is_a_maximal_set_without_overlap() -> None:
    boxes, scores, labels = clusters(2000, 3, seed=9)
    kept = batched_nms(boxes, scores, labels, 0.45)
    assert (scores[kept].diff() <= 0).all()
    overlaps = (box_iou(boxes.double(), boxes.double()[kept]) > 0.45) & (labels[:, None] == labels[kept])
    better = scores[:, None] <= scores[kept]
    assert torch.equal(overlaps[kept], torch.eye(len(kept), dtype=torch.bool))
    dropped = torch.ones(2000, dtype=torch.bool)
    dropped[kept] = False
    assert (overlaps & better)[dropped].any(dim=1).all()


def test_nothing_in_nothing_out() -> None:
    kept = batched_nms(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
    assert nms(torch.rand(1, 4), torch.zeros(1), 0.5).tolist() == [0]


def test_inputs_are_left_alone() -> None:
    tensors = clusters(100, 3, seed=2)
    copies = [tensor.clone() for tensor in tensors]
    batched_nms(*tensors, nms_thresh=0.5)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, copies, strict=True))


@pytest.mark.parametrize("place", [0, 50, 99])
def test_nan_is_refused(place: int) -> None:
    boxes, scores, labels = clusters(100, 3, seed=2)
    bad_scores, bad_boxes = scores.clone(), boxes.clone()
    bad_scores[place] = float("nan")
    bad_boxes[place, place % 4] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        batched_nms(boxes, bad_scores, labels, 0.5)
    with pytest.raises(ValueError, match="NaN"):
        batched_nms(bad_boxes, scores, labels, 0.5)
    with pytest.raises(ValueError, match="NaN"):
        nms(bad_boxes, scores, 0.5)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels"), [((3, 5), 3, 3), ((3, 4), 2, 3), ((3, 4), 3, 4), ((1, 3, 4), 1, 1)]
)
def test_wrong_shapes_are_refused(boxes: tuple[int, ...], scores: int, labels: int) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 4\], \[N\] and \[N\]"):
        batched_nms(torch.rand(boxes), torch.rand(scores), torch.zeros(labels, dtype=torch.int64), 0.5)


@pytest.mark.parametrize("nms_thresh", [-0.1, 1.5, float("nan")])
def test_wrong_threshold_is_refused(nms_thresh: float) -> None:
    with pytest.raises(ValueError, match="nms_thresh"):
        nms(torch.rand(3, 4), torch.rand(3), nms_thresh)
