"""``evaluate.py --verify``: compares the metrics with pycocotools on the written files."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolofpn.evaluation.metrics import COCO_KEYS

TOLERANCE = 1e-6  # both are means of the same thousands of numbers, added in another order


def verify(truth: Path, detections: Path, values: Mapping[str, float]) -> tuple[bool, str]:
    """Compare with pycocotools; return whether all twelve metrics agree, and a message.

    Args:
        truth: the ground truth, a COCO data set.
        detections: a COCO results list of its images.
        values: AP to ARl as they were printed.
    """
    expected = pycocotools_values(truth, detections)
    worst = max(COCO_KEYS, key=lambda key: abs(values[key] - expected[key]))
    difference = abs(values[worst] - expected[worst])
    if difference <= TOLERANCE:
        return True, f"verify: pycocotools agrees: the same twelve numbers from {truth.name} and {detections.name}"
    return False, (
        f"verify: pycocotools differs: it computes {worst} {expected[worst]:.6f} from {truth} and {detections}, "
        f"here it is {values[worst]:.6f}"
    )


def pycocotools_values(truth: Path, detections: Path) -> dict[str, float]:
    """Compute COCO's twelve metrics with pycocotools from two files."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped,unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped,unused-ignore]

    tree, results = json.loads(truth.read_bytes()), json.loads(detections.read_bytes())
    _number_ids(tree, results)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = tree
        dataset.createIndex()
        if not results:  # it takes no empty list
            found = COCO()
            found.dataset = {**tree, "annotations": []}
            found.createIndex()
        else:
            found = dataset.loadRes(results)
        judge = COCOeval(dataset, found, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(COCO_KEYS, judge.stats.tolist(), strict=True))


def _number_ids(tree: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Replace ids by running numbers in their order: pycocotools sorts them with NumPy, which knows no mixed ids."""
    for entries, key in ((tree["images"], "image_id"), (tree["categories"], "category_id")):
        places = {entry["id"]: number for number, entry in enumerate(entries, start=1)}
        for entry in entries:
            entry["id"] = places[entry["id"]]
        for item in (*tree["annotations"], *results):
            item[key] = places[item[key]]
