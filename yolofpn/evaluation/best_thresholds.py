"""Chooses the best-F1 score thresholds on a data set and stores them in the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from yolofpn.config import Metadata
from yolofpn.data.class_names import ClassMatch
from yolofpn.errors import UserError
from yolofpn.evaluation.operating_point import Outcomes, best_score_thresholds, count_above, match_darknet
from yolofpn.evaluation.table import EvaluationTable, Floats
from yolofpn.inference.predictor import Predictor
from yolofpn.ops.nms import batched_nms
from yolofpn.weights import save_weights

SUFFIX = ".safetensors"


def save_thresholds(
    path: Path, predictor: Predictor, match: ClassMatch, table: EvaluationTable, report_thresh: float
) -> str:
    """Write the weights with the best-F1 score threshold of each class; return a message.

    The thresholds are those of the NMS that the weights themselves ask for, as detection will use both together.

    Args:
        path: the safetensors file to write.
        predictor: the detector that was evaluated.
        match: which classes of the data set its own are.
        table: its detections down to a low score, and the objects.
        report_thresh: what the thresholds are compared with, and what they are where nothing was found.

    Raises:
        UserError: if the file cannot be written.
    """
    if predictor.detector.is_graph:
        raise UserError("--save-thresholds needs weights, not an exported graph: give the weights it was exported from")
    metadata = predictor.metadata
    outcomes = match_darknet(suppress(table, metadata.postprocess.nms_thresh))
    best = best_score_thresholds(outcomes, default=report_thresh)
    thresholds = by_weights_label(best, match, metadata)
    postprocess = metadata.postprocess.model_copy(update={"score_thresh": thresholds})
    assert isinstance(predictor.detector, nn.Module)
    save_weights(path, predictor.detector.state_dict(), metadata.model_copy(update={"postprocess": postprocess}))
    before, after = mean_f1(outcomes, report_thresh), mean_f1(outcomes, np.array(best))
    return (
        f"score thresholds of best F1: {min(best):.3f} to {max(best):.3f}, mean F1 of the classes {after:.3f} "
        f"({before:.3f} with {report_thresh:g} for all); stored in {path}"
    )


def mean_f1(outcomes: Outcomes, score_thresh: float | Floats) -> float:
    """Return the mean F1 of the classes with objects, for one threshold or one per class; 0 without objects."""
    counts = count_above(outcomes, score_thresh)
    f1 = [each.f1 for each, positives in zip(counts, outcomes.positives, strict=True) if positives]
    return float(np.mean(f1)) if f1 else 0.0


def suppress(table: EvaluationTable, nms_thresh: float) -> EvaluationTable:
    """Apply a stricter NMS to detections that already passed a milder one.

    That is what it would leave of all boxes, but for one that was hidden by a box that now is hidden itself.
    """
    found = table.detections
    kept = batched_nms(found.boxes, found.scores, table.detection_groups, nms_thresh)
    return replace(table, detections=found.take(np.sort(kept)))


def by_weights_label(thresholds: tuple[float, ...], match: ClassMatch, metadata: Metadata) -> tuple[float, ...]:
    """Map thresholds from data set labels to labels of the weights; other classes keep the stored thresholds."""
    stored = metadata.postprocess.score_thresh
    known = stored if isinstance(stored, tuple) else (stored,) * len(metadata.names)
    return tuple(own if label is None else thresholds[label] for label, own in zip(match.mapping, known, strict=True))
