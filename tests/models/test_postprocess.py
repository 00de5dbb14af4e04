"""Raw maps to detections, beside a loop over every prediction, class and pair of boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.cases import SIZE, SPECS, random_maps
from yolofpn.errors import NaNOutputError
from yolofpn.models.box_coder import yolo_box_to_xyxy
from yolofpn.models.pick_on_device import pick_on_device
from yolofpn.models.postprocess import MapSpec, Picked, decode_picked, pick_above, postprocess_maps
from yolofpn.structures import Detections, Limits

NUM_CLASSES = 3
EVERYTHING = Limits(score_thresh=0.0, nms_thresh=1.0, detections_per_img=10**6)


@dataclass(frozen=True)
class Found:
    box: tuple[float, float, float, float]
    score: float
    label: int


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def class_scores(logits: list[float], *, softmax: bool) -> list[float]:
    if not softmax:
        return [sigmoid(x) for x in logits]
    total = sum(math.exp(x) for x in logits)
    return [math.exp(x) / total for x in logits]


def read_cell(values: list[float], spec: MapSpec, anchor: int, row: int, column: int) -> list[Found]:
    """All classes of one prediction, whatever their score."""
    x, y, w, h, objectness = values[:5]
    dx, dy = (x, y) if spec.linear_xy else (sigmoid(x), sigmoid(y))
    if not spec.linear_xy:
        dx, dy = (v * spec.scale_x_y - (spec.scale_x_y - 1) / 2 for v in (dx, dy))
    centre_x, centre_y = (column + dx) * spec.stride, (row + dy) * spec.stride
    width, height = spec.anchors[anchor][0] * math.exp(w), spec.anchors[anchor][1] * math.exp(h)
    box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    scores = class_scores(values[5:], softmax=spec.softmax)
    return [Found(box, sigmoid(objectness) * score, label) for label, score in enumerate(scores)]


def overlap(a: Found, b: Found) -> float:
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (a, b)]
    return shared / (sum(areas) - shared)


def reference(
    dense: Mapping[str, Tensor], specs: Mapping[str, MapSpec], image: int, size: tuple[int, int], limits: Limits
) -> list[Found]:
    thresholds = limits.score_thresh
    if not isinstance(thresholds, tuple):
        thresholds = (thresholds,) * NUM_CLASSES
    found: list[Found] = []
    for name, spec in specs.items():
        _, _, height, width = dense[name].shape
        per_anchor = dense[name][image].view(len(spec.anchors), -1, height, width)
        for anchor in range(len(spec.anchors)):
            for row in range(height):
                for column in range(width):
                    values = per_anchor[anchor, :, row, column].double().tolist()
                    found += [f for f in read_cell(values, spec, anchor, row, column) if f.score > thresholds[f.label]]
    kept: list[Found] = []
    for candidate in sorted(found, key=lambda f: -f.score):
        rivals = (k for k in kept if k.label == candidate.label)
        if all(overlap(k, candidate) <= limits.nms_thresh for k in rivals):
            kept.append(candidate)
    height, width = size
    clipped = [
        Found((clip(f.box[0], width), clip(f.box[1], height), clip(f.box[2], width), clip(f.box[3], height)), *rest(f))
        for f in kept[: limits.detections_per_img]
    ]
    return clipped


def clip(value: float, limit: float) -> float:
    return min(max(value, 0.0), limit)


def rest(found: Found) -> tuple[float, int]:
    return found.score, found.label


def assert_equals(detections: Detections, expected: list[Found]) -> None:
    assert detections.labels.tolist() == [f.label for f in expected]
    assert detections.scores.tolist() == pytest.approx([f.score for f in expected], rel=1e-5)
    boxes = np.array([f.box for f in expected]).reshape(-1, 4)
    np.testing.assert_allclose(detections.boxes, boxes, rtol=1e-4, atol=1e-3)


def with_options(scale_x_y: float = 1.0, *, linear_xy: bool = False, softmax: bool = False) -> dict[str, MapSpec]:
    return {
        name: MapSpec(spec.stride, spec.anchors, scale_x_y, linear_xy=linear_xy, softmax=softmax)
        for name, spec in SPECS.items()
    }


def run(dense: Mapping[str, Tensor], specs: Mapping[str, MapSpec], limits: Limits) -> list[Detections]:
    batch = len(next(iter(dense.values())))
    return postprocess_maps(dense, specs, NUM_CLASSES, [SIZE] * batch, limits)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(score_thresh=0.25, nms_thresh=0.45),
        Limits(score_thresh=0.001, nms_thresh=0.3),
        Limits(score_thresh=(0.1, 0.6, 0.3), nms_thresh=0.6),
        Limits(score_thresh=0.01, nms_thresh=0.45, detections_per_img=7),
        EVERYTHING,
    ],
    ids=["0.25", "0.001", "per class", "at most 7", "everything"],
)
@pytest.mark.parametrize(
    "specs",
    [with_options(), with_options(2.0), with_options(linear_xy=True), with_options(softmax=True)],
    ids=["yolov3", "scale_x_y", "linear", "softmax"],
)
def test_equals_a_loop_over_every_prediction(specs: dict[str, MapSpec], limits: Limits) -> None:
    dense = random_maps(specs, NUM_CLASSES, SIZE, batch=2, seed=3)
    results = run(dense, specs, limits)
    assert len(results) == 2
    for image, detections in enumerate(results):
        expected = reference(dense, specs, image, SIZE, limits)
        assert expected, "a case without detections shows nothing"
        assert_equals(detections, expected)


def single_prediction(objectness: float, classes: list[float]) -> dict[str, Tensor]:
    """One cell at 'p5' that may be seen; all other predictions have objectness 0."""
    dense = {
        name: torch.full((1, 2 * (5 + NUM_CLASSES), SIZE[0] // s.stride, SIZE[1] // s.stride), -1e9)
        for name, s in SPECS.items()
    }
    dense["p5"][0, : 5 + NUM_CLASSES, 1, 1] = torch.tensor([0, 0, 0, 0, objectness, *classes])
    return dense


def test_one_box_may_have_several_classes() -> None:
    (detections,) = run(single_prediction(40, [40, -40, 0]), SPECS, Limits(score_thresh=0.3))
    assert detections.labels.tolist() == [0, 2]
    assert detections.scores.tolist() == [1.0, 0.5]
    # Column 1 of row 1 at stride 32: centre (48, 48); anchor 60 x 40; both on the image.
    assert detections.boxes.tolist() == [[18, 28, 78, 64], [18, 28, 78, 64]], "clipped to the height of 64"


def test_softmax_shares_one_certainty() -> None:
    dense = single_prediction(40, [math.log(6), math.log(3), 0])
    (detections,) = run(dense, with_options(softmax=True), Limits(score_thresh=0.2))
    assert detections.labels.tolist() == [0, 1]
    assert detections.scores.tolist() == pytest.approx([0.6, 0.3])


@pytest.mark.parametrize(("thresh", "count"), [(0.5, 0), (0.4999, 1), (0, 3), (1, 0)])
def test_the_score_must_exceed_the_threshold(thresh: float, count: int) -> None:
    (detections,) = run(single_prediction(40, [0, -40, -40]), SPECS, Limits(score_thresh=thresh))
    assert len(detections) == count


def test_the_best_are_kept_where_there_are_too_many() -> None:
    dense = random_maps(SPECS, NUM_CLASSES, SIZE)
    (everything,) = run(dense, SPECS, EVERYTHING)
    (five,) = run(dense, SPECS, Limits(0.0, 1.0, detections_per_img=5))
    assert np.array_equal(five.scores, everything.scores[:5])
    assert (np.diff(everything.scores) <= 0).all()


def test_an_image_does_not_depend_on_its_batch() -> None:
    dense = random_maps(SPECS, NUM_CLASSES, SIZE, batch=3)
    sizes = [(64, 96), (40, 96), (64, 50)]
    together = postprocess_maps(dense, SPECS, NUM_CLASSES, sizes, Limits(0.05))
    for i, size in enumerate(sizes):
        alone = {name: maps[i : i + 1] for name, maps in dense.items()}
        (expected,) = postprocess_maps(alone, SPECS, NUM_CLASSES, [size], Limits(0.05))
        assert np.array_equal(together[i].labels, expected.labels)
        torch.testing.assert_close(together[i].boxes, expected.boxes, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(together[i].scores, expected.scores, rtol=1e-6, atol=0)
    assert together[1].boxes[:, 3].max() == 40
    assert together[2].boxes[:, 2].max() == 50


def test_nothing_found_is_empty() -> None:
    detections = run(single_prediction(-40, [0, 0, 0]), SPECS, Limits())[0]
    assert len(detections) == 0
    assert detections.boxes.shape == (0, 4)
    assert detections.labels.dtype == np.int64


def test_half_precision_and_channels_last_maps_are_read() -> None:
    dense = {name: maps.half() for name, maps in random_maps(SPECS, NUM_CLASSES, SIZE, batch=2).items()}
    floats = {name: maps.float() for name, maps in dense.items()}
    last = {name: maps.to(memory_format=torch.channels_last) for name, maps in dense.items()}
    for found, expected in zip(run(last, SPECS, Limits(0.1)), run(floats, SPECS, Limits(0.1)), strict=True):
        assert found.boxes.dtype == np.float32
        assert np.array_equal(found.labels, expected.labels)
        torch.testing.assert_close(found.boxes, expected.boxes)
        torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("channel", range(5 + NUM_CLASSES))
def test_an_infinite_logit_gives_no_warning(channel: int, value: float, softmax: bool) -> None:
    dense = single_prediction(40, [40, 0, -40])
    dense["p5"][0, channel, 1, 1] = value
    (detections,) = run(dense, with_options(softmax=softmax), Limits())
    assert np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()


@pytest.mark.parametrize("channel", range(5 + NUM_CLASSES))
def test_nan_is_refused_wherever_it_is(channel: int) -> None:
    dense = single_prediction(40, [40, 40, 40])
    dense["p5"][0, channel, 1, 1] = math.nan
    with pytest.raises(ValueError, match="weights"):
        run(dense, SPECS, Limits())


def test_wrong_channels_thresholds_and_sizes_are_refused() -> None:
    dense = random_maps(SPECS, NUM_CLASSES, SIZE, batch=2)
    with pytest.raises(ValueError, match=r"16 channels for 2 anchors x \(5 \+ 4 classes\)"):
        postprocess_maps(dense, SPECS, 4, [SIZE] * 2, Limits())
    with pytest.raises(ValueError, match="2 score thresholds for 3 classes"):
        postprocess_maps(dense, SPECS, NUM_CLASSES, [SIZE] * 2, Limits(score_thresh=(0.1, 0.2)))
    with pytest.raises(ValueError, match="1 image sizes for a batch of 2"):
        postprocess_maps(dense, SPECS, NUM_CLASSES, [SIZE], Limits())


def test_maps_that_are_read_differently_are_refused() -> None:
    specs = {"p4": MapSpec(16, ((10, 10),)), "p5": MapSpec(32, ((20, 20),), softmax=True)}
    dense = {"p4": torch.zeros(1, 6, 2, 2), "p5": torch.zeros(1, 6, 1, 1)}
    with pytest.raises(ValueError, match="softmax"):
        postprocess_maps(dense, specs, 1, [(32, 32)], Limits())


@pytest.mark.parametrize("spec", [*with_options(1.5).values(), MapSpec(8, ((9.0, 7.0),), new_coords=True)])
def test_arrays_are_decoded_as_tensors_are(spec: MapSpec) -> None:
    """NumPy's decoding beside that which training uses."""
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 3, (40, 5 + NUM_CLASSES)).astype(np.float32)
    cells = rng.integers(0, 13, (40, 2))
    anchor = np.array(spec.anchors, np.float32)[rng.integers(0, len(spec.anchors), 40)]
    layout = np.concatenate([anchor, np.full((40, 2), spec.stride), np.full((40, 1), spec.scale_x_y)], axis=1)
    picked = Picked(np.zeros(40, np.int64), raw, cells, layout.astype(np.float32), np.ones((40, 1), np.float32))
    expected = yolo_box_to_xyxy(
        torch.from_numpy(raw[:, :4]),
        torch.from_numpy(anchor),
        torch.from_numpy(cells),
        spec.stride,
        spec.scale_x_y,
        new_coords=spec.new_coords,
    )
    np.testing.assert_allclose(decode_picked(picked, spec), expected.numpy(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("is_score", [False, True])
def test_a_device_picks_what_the_cpu_picks(is_score: bool) -> None:
    raw = np.random.default_rng(1).normal(0, 2, (2, 3, 5 + NUM_CLASSES, 4, 6)).astype(np.float32)
    places, values = pick_above(raw, 4, 0.6, is_score=is_score)
    own_places, own_values = pick_on_device(torch.from_numpy(raw), 4, 0.6, is_score=is_score)
    assert len(values) > 10
    np.testing.assert_array_equal(np.stack(places), np.stack(own_places))
    np.testing.assert_array_equal(values, own_values)
    raw[1, 2, 7, 3, 5] = math.nan
    with pytest.raises(NaNOutputError):
        pick_above(raw, 4, 0.6, is_score=is_score)
    with pytest.raises(NaNOutputError):
        pick_on_device(torch.from_numpy(raw), 4, 0.6, is_score=is_score)
