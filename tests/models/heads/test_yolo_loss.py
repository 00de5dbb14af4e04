"""Losses by hand, on one map of 2 x 2 cells with one anchor, and their behaviour on whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.models.cases import SIZE, SPECS, make_target, random_maps
from yolofpn.models.heads.assigner import Assignment, BestAnchorAssigner, SimOTAAssigner
from yolofpn.models.heads.predictions import Grid
from yolofpn.models.heads.yolo_loss import BoxLoss, YOLOLoss
from yolofpn.models.postprocess import MapSpec
from yolofpn.structures import Target

# A 64 x 64 input. Cell 1 is column 1 of row 0; what it predicts by zeros is (32, 0, 64, 32).
ONE_MAP = {"p5": MapSpec(32, ((32.0, 32.0),))}
# Centre (56, 20), size 40 x 32: offsets .75 and .625 within cell 1, log sizes ln 1.25 and 0; .3125 of the image.
BOX = (36, 4, 76, 36)
LOG3, LOG125 = math.log(3), math.log(1.25)
IOU = 784 / 1520  # 28 * 28 of 32 * 32 + 40 * 32 - 28 * 28
BOX_TYPES: list[BoxLoss] = ["squared", "bce", "iou", "giou", "diou", "ciou"]


@dataclass(frozen=True)
class Fixed:
    """Cell 1 learns box 0, ``ignored`` cells learn nothing."""

    ignored: tuple[int, ...] = ()

    def __call__(self, raw: Tensor, grid: Grid, target: Target) -> Assignment:
        ignored = torch.zeros(len(raw), dtype=torch.bool)
        ignored[list(self.ignored)] = True
        return Assignment(torch.tensor([1]), torch.tensor([0]), ignored)


def one_map(*cell: float) -> dict[str, Tensor]:
    """Zeros everywhere but in cell 1: x, y, w, h, objectness, two classes."""
    maps = torch.zeros(1, 7, 2, 2)
    maps[0, : len(cell), 0, 1] = torch.tensor(cell)
    return {"p5": maps}


def plain(box: BoxLoss = "squared", assigner: Fixed | None = None, **options: float) -> YOLOLoss:
    weights = {"box_weight": 1.0, **options}
    return YOLOLoss(ONE_MAP, assigner or Fixed(), box=box, iou_aware_classes=False, **weights)


def box_loss(box: BoxLoss, *cell: float, spec: MapSpec | None = None) -> float:
    loss = plain(box)
    if spec is not None:
        loss.specs = {"p5": spec}
    return loss(one_map(*cell), [make_target([BOX], [1])], (64, 64))["loss_box"].item()


def test_squared_error_by_hand() -> None:
    scale = 2 - 0.3125
    assert box_loss("squared") == pytest.approx(scale * (0.25**2 + 0.125**2 + LOG125**2) / 2)
    # sigmoid(ln 3) = .75 is the x wanted, sigmoid(-ln 3) = .25 is .375 from the y wanted.
    cell = (LOG3, -LOG3, LOG125, 0.5)
    assert box_loss("squared", *cell) == pytest.approx(scale * (0.375**2 + 0.5**2) / 2)


def test_cross_entropy_of_the_centre_by_hand() -> None:
    scale = 2 - 0.3125
    # x: the wanted .75 from .75; y: the wanted .625 from .25.
    x = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    y = -0.625 * math.log(0.25) - 0.375 * math.log(0.75)
    assert box_loss("bce", LOG3, -LOG3, 0, 0.5) == pytest.approx(scale * (x + y + (LOG125**2 + 0.5**2) / 2))


def test_a_centre_beyond_the_cell_asks_for_the_cells_border() -> None:
    # Centre (8, 20): .75 of a cell to the left of cell 1, so 0 is wanted of sigmoid(ln 3) = .75; of y, .625 of .5.
    maps, target = one_map(LOG3, 0, LOG125, 0), make_target([(-12, 4, 28, 36)])
    loss = plain("bce")(maps, [target], (64, 64))["loss_box"].item()
    assert loss == pytest.approx((2 - 0.3125) * (-math.log(0.25) - math.log(0.5)))


@pytest.mark.parametrize("box", ["squared", "bce"])
@pytest.mark.parametrize("scale_x_y", [1.0, 2.0])
def test_linear_centres_by_hand(box: BoxLoss, scale_x_y: float) -> None:
    spec = MapSpec(32, ((32.0, 32.0),), scale_x_y, linear_xy=True)
    expected = (2 - 0.3125) * ((0.5 - 0.75) ** 2 + 0.625**2 + LOG125**2) / 2
    assert box_loss(box, 0.5, 0, spec=spec) == pytest.approx(expected)
    assert box_loss(box, 0.75, 0.625, LOG125, 0, spec=spec) == pytest.approx(0, abs=1e-12)


def test_stretched_centres_by_hand() -> None:
    # scale_x_y 2: .75 = 2 s - .5 -> s = .625, .625 = 2 s - .5 -> s = .5625.
    spec = MapSpec(32, ((32.0, 32.0),), 2.0)
    expected = (2 - 0.3125) * (0.125**2 + 0.0625**2 + LOG125**2) / 2
    assert box_loss("squared", spec=spec) == pytest.approx(expected)


def test_iou_losses_by_hand() -> None:
    assert box_loss("iou") == pytest.approx(1 - IOU)
    # The hull is (32, 0) to (76, 36).
    assert box_loss("giou") == pytest.approx(1 - IOU + (44 * 36 - 1520) / (44 * 36))
    distance = (8**2 + 4**2) / (44**2 + 36**2)
    assert box_loss("diou") == pytest.approx(1 - IOU + distance)
    v = 4 / math.pi**2 * (math.atan(40 / 32) - math.atan(1)) ** 2
    assert box_loss("ciou") == pytest.approx(1 - IOU + distance + v * v / (1 - IOU + v))


@pytest.mark.parametrize("box", BOX_TYPES)
def test_the_right_box_costs_nothing(box: BoxLoss) -> None:
    # sigmoid(ln(5 / 3)) = 5 / 8. Cross-entropy has its least value there, not 0.
    value = box_loss(box, LOG3, math.log(5 / 3), LOG125, 0)
    if box == "bce":
        entropy = sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.75, 0.625))
        assert value == pytest.approx((2 - 0.3125) * entropy)
    else:
        assert value == pytest.approx(0, abs=1e-6)


def objectness(loss: YOLOLoss, cells: list[float]) -> float:
    maps = torch.zeros(1, 7, 2, 2)
    maps[0, 4] = torch.tensor(cells).view(2, 2)
    return loss({"p5": maps}, [make_target([BOX], [1])], (64, 64))["loss_objectness"].item()


def test_objectness_by_hand() -> None:
    # Probabilities .25, .75 (the object), .5 and .5; cells 0, 2 and 3 are background.
    logits = [-LOG3, LOG3, 0.0, 0.0]
    assert objectness(plain(), logits) == pytest.approx(-2 * math.log(0.75) - 2 * math.log(0.5))
    # Ignored cells do not count, unless they learn the box.
    assert objectness(plain(assigner=Fixed((1, 2))), logits) == pytest.approx(-2 * math.log(0.75) - math.log(0.5))
    assert objectness(plain(objectness_weight=3.0), logits) == pytest.approx(3 * -math.log(0.75**2 * 0.5**2))


def test_focal_loss_by_hand() -> None:
    # p_t is .75 in cells 0 and 1 and .5 in the others; alpha is .25 for the object, .75 for background.
    easy, hard = -math.log(0.75) * 0.25**2, -math.log(0.5) * 0.5**2
    expected = 0.25 * easy + 0.75 * (easy + 2 * hard)
    assert objectness(plain(focal_gamma=2.0), [-LOG3, LOG3, 0.0, 0.0]) == pytest.approx(expected)


def class_loss(*, iou_aware: bool, softmax: bool = False) -> float:
    """Of class 1, where the probabilities are .25 and .75 (by sigmoid) and the box reaches an IoU of .516."""
    specs = {"p5": MapSpec(32, ((32.0, 32.0),), softmax=softmax)}
    loss = YOLOLoss(specs, Fixed(), iou_aware_classes=iou_aware)
    maps = one_map(0, 0, 0, 0, 0, -LOG3, LOG3)
    return loss(maps, [make_target([BOX], [1])], (64, 64))["loss_class"].item()


def test_class_loss_by_hand() -> None:
    assert class_loss(iou_aware=False) == pytest.approx(-2 * math.log(0.75))
    reached = -IOU * math.log(0.75) - (1 - IOU) * math.log(0.25)
    assert class_loss(iou_aware=True) == pytest.approx(reached - math.log(0.75))
    # e^(ln 3) / (e^(ln 3) + e^(-ln 3)) = 3 / (3 + 1 / 3) = .9, with and without the IoU.
    assert class_loss(iou_aware=False, softmax=True) == pytest.approx(-math.log(0.9))
    assert class_loss(iou_aware=True, softmax=True) == pytest.approx(-math.log(0.9))


def test_regions_to_ignore_stand_between_the_boxes() -> None:
    """The box that is learned is the first that is not ignored: the second of this target, of class 1."""
    maps, loss = one_map(0.3, 0.1, 0.2, -0.1, 0.5, 0.7, -0.2), plain()
    expected = loss(maps, [make_target([BOX], [1])], (64, 64))
    losses = loss(maps, [make_target([(0, 0, 9, 9), BOX], [0, 1], [True, False])], (64, 64))
    assert {name: value.item() for name, value in losses.items()} == {n: v.item() for n, v in expected.items()}


def test_the_iou_that_classes_want_teaches_no_box() -> None:
    maps = one_map(0.3, 0.1, 0.2, -0.1, 0.5, 0.7, -0.2)["p5"].requires_grad_()
    losses = YOLOLoss(ONE_MAP, Fixed())({"p5": maps}, [make_target([BOX], [1])], (64, 64))
    (gradient,) = torch.autograd.grad(losses["loss_class"], maps)
    assert (gradient[:, :5] == 0).all()
    assert (gradient[0, 5:, 0, 1] != 0).all()


def test_weights_multiply_and_positives_divide() -> None:
    maps = {"p5": one_map(0.3, 0.1, 0.2, -0.1, 0.5, 0.7, -0.2)["p5"].repeat(2, 1, 1, 1)}
    targets = [make_target([BOX], [1])] * 2
    single = plain()({"p5": maps["p5"][:1]}, targets[:1], (64, 64))
    weighted = plain(box_weight=2.0, objectness_weight=3.0, class_weight=5.0)(maps, targets, (64, 64))
    # Twice the sum over twice the positives.
    for name, weight in (("loss_box", 2), ("loss_objectness", 3), ("loss_class", 5)):
        assert weighted[name].item() == pytest.approx(weight * single[name].item())


ASSIGNERS: dict[str, Callable[[], BestAnchorAssigner | SimOTAAssigner]] = {
    "best anchor": BestAnchorAssigner,
    "dual": lambda: BestAnchorAssigner(0.3, 0.7),
    "simota": SimOTAAssigner,
}
every_assigner = pytest.mark.parametrize("assigner", ASSIGNERS.values(), ids=ASSIGNERS.keys())
every_box_loss = pytest.mark.parametrize("box", BOX_TYPES)


@every_assigner
@every_box_loss
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(
    "targets",
    [[make_target([]), make_target([])], [make_target([]), make_target([(5, 5, 60, 50)], ignore=[True])]],
    ids=["empty", "regions to ignore"],
)
def test_without_boxes_there_is_no_box_and_no_class_loss(
    assigner: Callable[[], BestAnchorAssigner | SimOTAAssigner],
    box: BoxLoss,
    softmax: bool,
    targets: list[Target],
) -> None:
    specs = {name: MapSpec(s.stride, s.anchors, softmax=softmax) for name, s in SPECS.items()}
    maps = {name: m.requires_grad_() for name, m in random_maps(specs, 2, SIZE, batch=2).items()}
    losses = YOLOLoss(specs, assigner(), box=box)(maps, targets, SIZE)
    assert losses["loss_box"].item() == 0
    assert losses["loss_class"].item() == 0
    assert losses["loss_objectness"].item() > 0
    total = losses["loss_box"] + losses["loss_class"] + losses["loss_objectness"]
    for gradient in torch.autograd.grad(total, list(maps.values())):
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.slow
@every_assigner
@every_box_loss
def test_a_batch_is_the_mean_of_its_images_weighted_by_their_positives(
    assigner: Callable[[], BestAnchorAssigner | SimOTAAssigner], box: BoxLoss
) -> None:
    first = make_target([(3, 5, 33, 42), (50, 10, 90, 40)], [0, 1])
    second = make_target([(35, 17, 45, 31), (0, 0, 96, 64), (28, 14, 52, 34)], [1, 1, 0], [False, True, False])
    maps = random_maps(SPECS, 2, SIZE, batch=2)
    counts: list[int] = []

    def counting(raw: Tensor, grid: Grid, target: Target) -> Assignment:
        assignment = assigner()(raw, grid, target)
        counts.append(len(assignment.positive))
        return assignment

    loss = YOLOLoss(SPECS, counting, box=box, focal_gamma=1.5)
    alone = [
        loss({name: m[i : i + 1] for name, m in maps.items()}, [target], SIZE)
        for i, target in enumerate((first, second))
    ]
    together = loss(maps, [first, second], SIZE)
    a, b, *_ = counts
    assert min(a, b) > 0
    for name, value in together.items():
        expected = (a * alone[0][name] + b * alone[1][name]) / (a + b)
        torch.testing.assert_close(value, expected)


def test_images_of_a_batch_may_differ_in_everything() -> None:
    maps = {name: m.requires_grad_() for name, m in random_maps(SPECS, 2, SIZE, batch=3).items()}
    targets = [make_target([]), make_target([(3, 5, 33, 42)], [1]), make_target([(0, 0, 50, 50)], ignore=[True])]
    losses = YOLOLoss(SPECS, SimOTAAssigner())(maps, targets, SIZE)
    assert all(value.isfinite() and value > 0 for value in losses.values())


def test_extreme_predictions_give_finite_gradients() -> None:
    for scale in (30.0, 1e4):
        maps = {name: (scale * m).requires_grad_() for name, m in random_maps(SPECS, 2, SIZE).items()}
        for box in BOX_TYPES:
            for assigner in ASSIGNERS.values():
                loss = YOLOLoss(SPECS, assigner(), box=box, focal_gamma=0.5)
                losses = loss(maps, [make_target([(3, 5, 33, 42)], [1])], SIZE)
                gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), list(maps.values()))
                assert all(gradient.isfinite().all() for gradient in gradients), (scale, box)
