"""Weights whose scores are probabilities.

    python tools/calibrate_scores.py WEIGHTS OUT.safetensors --data DATA [DATA ...]

The target of a class is the IoU of the prediction (`iou_aware_classes`), so scores are lower than the share of
detections that are right. Platt scaling (arXiv 1706.04599, section 4.1) puts a line through each of the two logits:
score = sigmoid(a objectness + b) x sigmoid(c class + d), with the four numbers that have the lowest cross-entropy with
"matches an object at an IoU of .5" on the val splits; each data set has the same weight. The lines become part of the
last convolutions, so the network stays as fast as it is. Printed are how well the four numbers of each half of the
images describe the other half, and precision, recall and F1 before and after. The score threshold becomes the
multiple of .05 with the best mean F1.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from yolofpn.bands import in_tensor_order
from yolofpn.data.class_names import match_classes
from yolofpn.data.layouts import open_data
from yolofpn.data.samples import to_tensor
from yolofpn.errors import InputError, UserError
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.evaluation.operating_point import match_darknet
from yolofpn.models.postprocess import class_scores, decode_picked, pick_from_maps
from yolofpn.models.yolo import YOLO
from yolofpn.ops.nms import batched_nms
from yolofpn.ops.resize import resize_image
from yolofpn.structures import Detections
from yolofpn.weights import LoadedWeights, load_weights, save_weights

LOWEST = 0.02  # score; lower ones are not counted
UNCHANGED = torch.zeros(4, dtype=torch.float64)  # the lines of weights as they are
PENALTY = 1e-3  # of a change of the logits, which decides where the data do not


@dataclass(frozen=True)
class Outcomes:
    """The D detections of data sets.

    Attributes:
        logits: [D, 2] of objectness and class.
        right: [D] 1 where an object is matched, else 0.
        images: [D] the index of its image.
        weights: [D] of each in the mean; 1 / D of its data set.
        found: [D] its part of the recall: 1 / objects of its data set if it is right, else 0.
    """

    logits: Tensor
    right: Tensor
    images: Tensor
    weights: Tensor
    found: Tensor

    def take(self, rows: Tensor) -> Outcomes:
        """Those rows."""
        return Outcomes(*(column[rows] for column in vars(self).values()))


def scores_of(lines: Tensor, logits: Tensor) -> Tensor:
    """Scores [D] of logits [D, 2]; ``lines`` are log a, b, log c, d, so that zeros change nothing."""
    steps, shifts = lines[0::2].exp(), lines[1::2]
    return torch.sigmoid(logits * steps + shifts).prod(dim=1)


def cross_entropy(lines: Tensor, outcomes: Outcomes) -> Tensor:
    """The weighted mean over detections."""
    found = scores_of(lines, outcomes.logits).clamp(1e-9, 1 - 1e-9)
    losses = nn.functional.binary_cross_entropy(found, outcomes.right, reduction="none")
    return (losses * outcomes.weights).sum() / outcomes.weights.sum()


def fit(outcomes: Outcomes) -> Tensor:
    """The four numbers of the lowest cross-entropy."""
    lines = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([lines], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = cross_entropy(lines, outcomes) + PENALTY * lines.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return lines.detach()


def f1_above(part: Outcomes, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of the detections of one data set with a higher score."""
    above = scores_of(UNCHANGED, part.logits) > threshold
    recall, precision = float(part.found[above].sum()), float(part.right[above].mean()) if above.any() else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if recall else 0.0


def best_threshold(parts: list[Outcomes]) -> float:
    """The multiple of .05 with the highest mean F1."""
    return max((step / 20 for step in range(1, 20)), key=lambda step: sum(f1_above(part, step)[2] for part in parts))


def put_into(detector: YOLO, lines: Tensor) -> None:
    """Change the last convolution of each level so that its logits are on the lines."""
    (a, b), (c, d) = ((float(lines[row].exp()), float(lines[row + 1])) for row in (0, 2))
    for name in detector.specs:
        predict = detector.head.get_submodule(f"{name}.predict")
        assert isinstance(predict, nn.Conv2d) and predict.bias is not None
        anchors = len(detector.specs[name].anchors)
        with torch.no_grad():
            kernel, bias = predict.weight.view(anchors, 5 + detector.num_classes, -1), predict.bias.view(anchors, -1)
            kernel[:, 4] *= a
            bias[:, 4] = a * bias[:, 4] + b
            kernel[:, 5:] *= c
            bias[:, 5:] = c * bias[:, 5:] + d


@torch.inference_mode()
def detect(loaded: LoadedWeights, data: str) -> Outcomes:
    """The detections in a data set's val split, each matched with an object or not."""
    detector, metadata = loaded.detector, loaded.metadata
    assert isinstance(detector, YOLO)
    spec = next(iter(detector.specs.values()))
    dataset = open_data(data).load("val")
    match = match_classes(metadata.names, metadata.category_ids, dataset.names, dataset.category_ids)
    labels_of = np.array([-1 if label is None else label for label in match.mapping])
    metrics, columns = DetectionMetrics(dataset.names), []
    for index in range(len(dataset)):
        try:
            image = dataset.image(index)
        except InputError:
            continue
        resized, placement = resize_image(image, metadata.input.size, metadata.input.resize)
        maps = detector.dense(to_tensor(in_tensor_order(resized))[None])
        picked = pick_from_maps(maps, detector.specs, detector.num_classes, LOWEST, metadata.input.size)
        scores = class_scores(picked, spec)
        rows, classes = (scores > LOWEST).nonzero()
        boxes, best = decode_picked(picked, spec)[rows], scores[rows, classes]
        kept = batched_nms(boxes, best, classes, metadata.postprocess.nms_thresh)[
            : metadata.postprocess.detections_per_img
        ]
        kept = kept[labels_of[classes[kept]] >= 0]
        labels = labels_of[classes[kept]]
        metrics.add(
            Detections(placement.to_image(boxes[kept]), best[kept], labels),
            dataset.target(index, (image.shape[0], image.shape[1])),
        )
        logits = picked.raw[rows[kept], 4], picked.raw[rows[kept], 5 + classes[kept]]
        columns.append(np.stack([*logits, best[kept], labels, np.full(len(kept), index)], axis=1))
    table = np.concatenate(columns)
    table = table[np.lexsort((-table[:, 2], table[:, 3], table[:, 4]))]  # as the table of the metrics
    outcomes = match_darknet(metrics.table())
    np.testing.assert_array_equal(outcomes.labels, table[:, 3])
    np.testing.assert_array_equal(outcomes.scores.astype(np.float32), table[:, 2].astype(np.float32))
    known = torch.from_numpy(outcomes.true | outcomes.false)  # the others are on ignored objects
    count = int(known.sum())
    if not count or not outcomes.true.any():
        raise UserError(f"{data}: no detection in its val split is right, so there is nothing to calibrate by")
    print(f"{data}: {len(metrics)} images, {count} detections, {outcomes.true.sum()} of them right")
    return Outcomes(
        torch.from_numpy(table[:, :2]).double(),
        torch.from_numpy(outcomes.true).double(),
        torch.from_numpy(table[:, 4]).long(),
        torch.full((len(table),), 1 / count, dtype=torch.float64),
        torch.from_numpy(outcomes.true / outcomes.positives.sum()),
    ).take(known)


def main() -> None:
    """Fit, report, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", help="of a one-stage network with independent classes")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", required=True, help="data sets with a val split")
    arguments = parser.parse_args()
    loaded = load_weights(arguments.weights)
    detector = loaded.detector
    if isinstance(loaded.metadata.postprocess.score_thresh, tuple):
        raise UserError(f"{arguments.weights}: has a threshold for each class, which the calibration would make wrong")
    if not isinstance(detector, YOLO) or any(spec.softmax or spec.new_coords for spec in detector.specs.values()):
        raise UserError(f"{arguments.weights}: not a one-stage network of a YAML config with independent classes")
    parts = [detect(loaded, data) for data in arguments.data]
    everything = Outcomes(*(torch.cat(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))
    for half in (0, 1):
        here = everything.images % 2 == half
        lines, rest = fit(everything.take(here)), everything.take(~here)
        before, after = (float(cross_entropy(each, rest)) for each in (UNCHANGED, lines))
        print(f"fitted on one half: cross-entropy of the other {before:.4f} -> {after:.4f}")
    lines = fit(everything)
    a, b, c, d = (float(number) for number in (lines[0].exp(), lines[1], lines[2].exp(), lines[3]))
    print(f"score = sigmoid({a:.3f} o + {b:.3f}) x sigmoid({c:.3f} c + {d:.3f})")
    put_into(detector, lines)
    calibrated = [detect(loaded, data) for data in arguments.data]  # NMS may keep other boxes now
    threshold = best_threshold(calibrated)
    for name, found, points in (
        ("before", parts, (loaded.metadata.postprocess.score_thresh, best_threshold(parts))),
        ("after", calibrated, (threshold,)),
    ):
        for point in points:
            for data, part in zip(arguments.data, found, strict=True):
                precision, recall, f1 = f1_above(part, point)
                print(f"{name}, above {point:g}: {data}: precision {precision:.3f} recall {recall:.3f} F1 {f1:.3f}")
    postprocess = loaded.metadata.postprocess.model_copy(update={"score_thresh": threshold})
    metadata = loaded.metadata.model_copy(update={"postprocess": postprocess})
    save_weights(arguments.out, detector.state_dict(), metadata, torch.float16)


if __name__ == "__main__":
    main()
