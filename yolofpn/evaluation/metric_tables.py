"""Formats metrics as tables."""

from __future__ import annotations

from collections.abc import Sequence

from yolofpn.evaluation.coco import NO_OBJECTS
from yolofpn.evaluation.metrics import COCO_LIMIT, ClassMetrics, CrowdedImages, Metrics
from yolofpn.evaluation.operating_point import Counts

LONGEST_NAME = 24
COUNT_COLUMNS = ("TP", "FP", "FN", "precision", "recall", "F1")


def format_metrics(metrics: Metrics) -> str:
    """Format COCO's twelve metrics, those of VOC and proposals if computed, and a line per class.

    Classes without objects and without detections above the report threshold are omitted.
    """
    values = metrics.values
    lines = [
        "",
        _columns(["AP", "AP50", "AP75", "APs", "APm", "APl"], values),
        _columns(["AR1", "AR10", "AR100", "ARs", "ARm", "ARl"], values),
    ]
    if metrics.proposal_recall:
        lines.append(_columns(["AR100", "AR1000"], metrics.proposal_recall) + "   boxes of any class")
    if "voc07_mAP" in values:
        lines.append(f"VOC mAP {_number(values['voc07_mAP'])} (2007), {_number(values['voc10_mAP'])} (2010 and later)")
    shown = [each for each in metrics.per_class if each.objects or each.counts.false_positives]
    lines += ["", f"at IoU 0.5, scores above {metrics.report_thresh:g}:", *_class_table(shown, metrics)]
    if left_out := len(metrics.per_class) - len(shown):
        lines.append(f"classes without objects and detections, skipped: {left_out}")
    return "\n".join(lines)


def format_proposals(recall: dict[str, float]) -> str:
    """The columns of the FPN paper's table 1 (arXiv 1612.03144), with 1000 proposals of an image also by size."""
    return "proposals:\n" + _columns(["AR100", "AR1000", "AR1000s", "AR1000m", "AR1000l"], recall)


def format_crowded(crowded: CrowdedImages, max_detections: int) -> list[str]:
    """Format the effect of the limits on detections."""
    lines = []
    if crowded.of_a_class:
        lines.append(
            f"limit: {_images(crowded.of_a_class)} more than {COCO_LIMIT} objects of a class (up to "
            f"{crowded.most_of_a_class}), and COCO's AP counts {COCO_LIMIT} detections of an image and class"
        )
    if crowded.in_all:
        lines.append(
            f"limit: {_images(crowded.in_all)} more than {max_detections} objects (up to {crowded.most_in_all}): "
            f"raise --max-det to find all"
        )
    if crowded.values:
        shown = _columns(["AP", "AP50", "AP75", "APs", "APm", "APl"], crowded.values)
        lines.append(f"with up to {max_detections} detections (--max-det):\n{shown}")
    return lines


def _images(count: int) -> str:
    return "1 image has" if count == 1 else f"{count} images have"


def _class_table(shown: Sequence[ClassMetrics], metrics: Metrics) -> list[str]:
    width = max([len("all classes"), *(min(len(each.name), LONGEST_NAME) for each in shown)])
    objects = sum(each.objects for each in metrics.per_class)
    rows = [_class_row(each.name, each.objects, each.values["AP50"], each.counts, width) for each in shown]
    head = f"{'class':{width}} {'objects':>8} {'AP50':>6}" + "".join(f" {name:>9}" for name in COUNT_COLUMNS)
    return [head, *rows, _class_row("all classes", objects, metrics.values["AP50"], metrics.counts, width)]


def _class_row(name: str, objects: int, ap50: float, counts: Counts, width: int) -> str:
    shares = "".join(f" {share:9.3f}" for share in (counts.precision, counts.recall, counts.f1))
    numbers = (counts.true_positives, counts.false_positives, counts.false_negatives)
    return (
        f"{name[:LONGEST_NAME]:{width}} {objects:8d} {_number(ap50):>6}" + "".join(f" {n:9d}" for n in numbers) + shares
    )


def _columns(names: Sequence[str], values: dict[str, float]) -> str:
    return "   ".join(f"{name:>6} {_number(values[name])}" for name in names)


def _number(value: float) -> str:
    return "    -" if value == NO_OBJECTS else f"{value:.3f}"
