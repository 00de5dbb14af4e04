"""One COCO data set of 80 classes from Pascal VOC and COCO images; a teacher fills in what VOC does not label.

VOC's images have labels for 20 of COCO's 80 classes; an unlabelled cup in one is unknown, not background. The
teacher's confident boxes of the other 60 classes become objects, its doubtful ones ignore regions. Boxes of the 20
classes are the organisers' alone. A hash of the file name keeps a tenth of COCO's images for validation; of VOC only
the split train is taken.

    python tools/merge_voc_coco.py --voc VOC --coco COCO --teacher yolov3-tiny.weights OUT

OUT then holds train.json, val.json, data.yaml and links to both image folders.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from yolofpn.data.class_names import COCO_NAMES, coco_category_ids, normalise_name
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.images import image_size
from yolofpn.data.layouts import held_out_mask, open_data
from yolofpn.data.loader import Loader
from yolofpn.data.sampler import EvalBatchSampler
from yolofpn.data.samples import EvaluationSamples
from yolofpn.devices import choose_device, default_workers
from yolofpn.evaluation.evaluator import place_detections, run_dense
from yolofpn.structures import Limits
from yolofpn.weights import load_weights

VOC_CFG = Path(__file__).resolve().parents[1] / "cfg" / "data" / "voc.yaml"
OBJECT_SCORE = 0.4  # of the teacher: from here on its boxes are objects
BATCH = 32
DOUBT_SCORE = 0.1  # and from here on ignore regions


def main() -> None:
    """Write the data set."""
    arguments = parse_arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    for name, folder in (("voc", arguments.voc), ("coco", arguments.coco)):
        if not (out / name).exists():
            (out / name).symlink_to(folder.resolve())
    coco = open_data(write_yaml(out / "coco.yaml", "coco", "coco/images", "coco/instances.json")).load("all")
    voc = open_data(VOC_CFG, out / "voc").load("train")
    held_out = held_out_mask(coco)
    taught = voc_rows(voc, arguments.teacher)
    train = [*coco_rows(coco.subset(np.flatnonzero(~held_out)), out), *((image, rows) for image, rows in taught)]
    write_coco(out / "train.json", train, out)
    write_coco(out / "val.json", coco_rows(coco.subset(np.flatnonzero(held_out)), out), out)
    lines = ["format: coco", "splits:", *(f"  {s}: {{images: ., annotations: {s}.json}}" for s in ("train", "val"))]
    (out / "data.yaml").write_text("\n".join(lines) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--voc", type=Path, required=True, help="folder with Annotations, ImageSets and JPEGImages")
    parser.add_argument("--coco", type=Path, required=True, help="folder with images and instances.json")
    parser.add_argument("--teacher", required=True, help="weights of a detector of COCO's 80 classes")
    parser.add_argument("out", type=Path, help="folder of the merged data set")
    return parser.parse_args()


def write_yaml(path: Path, kind: str, images: str, annotations: str) -> Path:
    """A data YAML with one split."""
    path.write_text(f"format: {kind}\nsplits:\n  train: {{images: {images}, annotations: {annotations}}}\n")
    return path


Row = dict[str, Any]


def coco_rows(dataset: DetectionDataset, out: Path) -> Iterator[tuple[str, list[Row]]]:
    """Of each image its file, relative to ``out``, and its annotations."""
    for index, path in enumerate(dataset.paths):
        target = dataset.target(index)
        yield (
            str(Path(path).relative_to(out)),
            [
                row(box, dataset.category_ids[max(label, 0)], crowd=ignore)
                for box, label, ignore in zip(
                    target.boxes.tolist(), target.labels.tolist(), target.ignore.tolist(), strict=True
                )
            ],
        )


def voc_rows(dataset: DetectionDataset, teacher: str) -> Iterator[tuple[str, list[Row]]]:
    """As ``coco_rows``, with the teacher's boxes of what VOC has no class for."""
    ids = dict(zip((normalise_name(name) for name in COCO_NAMES), coco_category_ids(COCO_NAMES), strict=True))
    own = [ids[normalise_name(name)] for name in dataset.names]
    for index, found in enumerate(teach(dataset, teacher)):
        target = dataset.target(index)
        rows = [
            row(box, own[max(label, 0)], crowd=ignore)
            for box, label, ignore in zip(
                target.boxes.tolist(), target.labels.tolist(), target.ignore.tolist(), strict=True
            )
        ]
        rows += [row(box, each, crowd=score < OBJECT_SCORE) for box, score, each in found if each not in own]
        yield f"voc/JPEGImages/{Path(dataset.paths[index]).name}", rows


def teach(dataset: DetectionDataset, teacher: str) -> Iterator[Iterable[tuple[list[float], float, int]]]:
    """Of each image box, score and COCO's category id of what the teacher finds."""
    loaded = load_weights(teacher)
    device = choose_device("auto")
    detector, size = loaded.detector.to(device), loaded.metadata.input.size
    ids = coco_category_ids(loaded.metadata.names)
    samples = EvaluationSamples(dataset, loaded.metadata.input.resize)
    loader = Loader(samples, EvalBatchSampler(len(dataset), BATCH, size), workers=default_workers(device))
    limits = Limits(score_thresh=DOUBT_SCORE, nms_thresh=0.45, detections_per_img=100)
    for batch in tqdm(loader, desc="teacher"):
        dense = run_dense(detector, batch.images.to(device), torch.float32)
        for found in place_detections(detector, dense, batch, limits):
            labels = (ids[label] for label in found.labels.tolist())
            yield zip(found.boxes.tolist(), found.scores.tolist(), labels, strict=True)


def row(box: list[float], category: int, *, crowd: bool) -> Row:
    """A COCO annotation without ids."""
    x1, y1, x2, y2 = (round(value, 2) for value in box)
    width, height = x2 - x1, y2 - y1
    return {
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "category_id": category,
        "iscrowd": int(crowd),
    }


def write_coco(path: Path, images: Iterable[tuple[str, list[Row]]], out: Path) -> None:
    """The JSON file."""
    tree: dict[str, list[Row]] = {"images": [], "annotations": [], "categories": []}
    for image_id, (file_name, rows) in enumerate(images, start=1):
        height, width = image_size(out / file_name)
        tree["images"].append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for each in rows:
            tree["annotations"].append({"id": len(tree["annotations"]) + 1, "image_id": image_id, **each})
    tree["categories"] = [
        {"id": category, "name": name} for category, name in zip(coco_category_ids(COCO_NAMES), COCO_NAMES, strict=True)
    ]
    path.write_text(json.dumps(tree))


if __name__ == "__main__":
    main()
