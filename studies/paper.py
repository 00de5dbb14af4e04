"""The ablations of "Feature Pyramid Networks for Object Detection" (arXiv 1612.03144, version 2), as printed there.

All are of ResNet-50, trained on COCO trainval35k and measured on minival, in per cent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables.

    Attributes:
        title: what it measures.
        source: the table's place in the paper.
        columns: of the numbers, under the names that ``evaluate.py --json`` uses.
        of_proposals: the numbers are of proposals, not of detections.
        rows: by the paper's letter; None where a number is not given.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    of_proposals: bool
    rows: dict[str, tuple[float | None, ...]]


DETECTION_COLUMNS = ("AP50", "AP", "APs", "APm", "APl")

PAPER_TABLES = {
    "rpn": PaperTable(
        title="Proposals",
        source="table 1, RPN",
        columns=("AR100", "AR1000", "AR1000s", "AR1000m", "AR1000l"),
        of_proposals=True,
        rows={
            "a": (36.1, 48.3, 32.0, 58.7, 62.2),
            "b": (36.3, 44.9, 25.3, 55.5, 64.2),
            "c": (44.0, 56.3, 44.9, 63.4, 66.2),
            "d": (37.4, 49.5, 30.5, 59.9, 68.0),
            "e": (34.5, 46.1, 26.5, 57.4, 64.7),
            "f": (38.4, 51.3, 35.1, 59.7, 67.6),
        },
    ),
    "fast_rcnn": PaperTable(
        title="Detection on fixed proposals",
        source="table 2, Fast R-CNN on the proposals of table 1, row (c)",
        columns=DETECTION_COLUMNS,
        of_proposals=False,
        rows={
            "a": (54.7, 31.9, 15.7, 36.5, 45.5),
            "b": (52.9, 28.8, 11.9, 32.4, 43.4),
            "c": (56.9, 33.9, 17.8, 37.7, 45.8),
            "d": (44.9, 24.9, 10.9, 24.4, 38.5),
            "e": (54.0, 31.3, 13.3, 35.2, 45.3),
            "f": (56.3, 33.4, 17.3, 37.3, 45.6),
        },
    ),
    "faster_rcnn": PaperTable(
        title="Detection",
        source="table 3, Faster R-CNN",
        columns=DETECTION_COLUMNS,
        of_proposals=False,
        rows={
            "*": (47.3, 26.3, None, None, None),  # the baseline of He et al. (arXiv 1512.03385), on conv4
            "a": (53.1, 31.6, 13.2, 35.6, 47.1),
            "b": (51.7, 28.0, 9.6, 31.9, 43.1),
            "c": (56.9, 33.9, 17.8, 37.7, 45.8),
        },
    ),
}
