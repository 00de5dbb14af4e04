"""Pascal VOC, 15 + 5 classes: the last five in the alphabet are added to a detector of the first fifteen.

The protocol is that of ILOD (arXiv 1708.06977): the first training sees the images with an object of the old classes
and their labels; the second sees the images with an object of the new classes and the labels of these alone, although
they show old objects too. Four detectors are compared on images that label all classes:

    old         the first training
    added       train.py --weights old --add-classes: the old classes are kept by distillation and ignore regions
    finetuned   the same weights and images, trained plainly with 20 class outputs
    joint       trained on all images and all labels of both trainings

At most about --cap images of each class are taken, and shrunk to 160 pixels once, so that a CPU is enough.

    python tools/class_incremental.py --voc VOC OUT [--seeds 0 1]

VOC holds Annotations, ImageSets and JPEGImages. Finished parts are skipped, interrupted trainings resumed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolofpn.data.class_names import VOC_NAMES
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data

ROOT = Path(__file__).resolve().parents[1]
CFG = Path(__file__).with_suffix(".yaml")
OLD, NEW, ALL = range(15), range(15, 20), range(20)
SIDE = 160  # pixels of the longer side of the shrunk images
ADDED_EPOCHS = 6  # of the second training
# Of each data set: the classes that it labels, those that it names, and the images that it takes.
SETS = {"old": (OLD, OLD, "old"), "new": (NEW, NEW, "new"), "new-named": (NEW, ALL, "new"), "all": (ALL, ALL, "both")}


def main() -> None:
    """Make the data sets, train and evaluate, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--voc", type=Path, required=True, help="folder with Annotations, ImageSets and JPEGImages")
    parser.add_argument("--cap", type=int, default=80, help="images of a class, roughly")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("out", type=Path, help="folder of data, runs and results")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    if not (out / "all.yaml").exists():
        make_data(arguments.voc.resolve(), out, arguments.cap)
    for seed in arguments.seeds:
        run_seed(out, seed)
    print(table(out, arguments.seeds))


def make_data(voc: Path, out: Path, cap: int) -> None:
    """Write the data sets in COCO's format, with shrunk images."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    source = open_data(str(ROOT / "cfg" / "data" / "voc.yaml"), voc)
    train, val = source.load("train"), source.load("val")
    old, new = choose(train, OLD, cap), choose(train, NEW, cap)
    chosen = {"old": old, "new": new, "both": old | new}
    for name, (labelled, named, images) in SETS.items():
        for split, dataset, kept in (("train", train, chosen[images]), ("val", val, None)):
            (out / f"{name}-{split}.json").write_text(json.dumps(coco(dataset, labelled, named, kept, out)))
        splits = (f"  {split}: {{images: images, annotations: {name}-{split}.json}}" for split in ("train", "val"))
        (out / f"{name}.yaml").write_text("\n".join(["format: coco", "splits:", *splits]) + "\n")


def choose(dataset: DetectionDataset, classes: Collection[int], cap: int) -> set[int]:
    """Images with an object of the classes: all those of rare classes, and of the others up to ``cap`` each."""
    shown = [set(dataset.target(index).labels.tolist()) & set(classes) for index in range(len(dataset))]
    total = {label: sum(label in labels for labels in shown) for label in classes}
    counts, chosen = dict.fromkeys(classes, 0), set()
    for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
        numbers = [counts[label] for label in shown[index]]
        if not numbers:
            continue
        rare = any(total[label] <= cap for label in shown[index])
        if rare or (min(numbers) < cap and max(numbers) < 2 * cap):
            chosen.add(index)
            for label in shown[index]:
                counts[label] += 1
    return chosen


def coco(
    dataset: DetectionDataset, labelled: Collection[int], named: Collection[int], chosen: set[int] | None, out: Path
) -> dict[str, Any]:
    """Return COCO's tree of the chosen images (None: of all) with an object of the labelled classes; shrink them."""
    tree: dict[str, Any] = {"images": [], "annotations": []}
    tree["categories"] = [{"id": label, "name": VOC_NAMES[label]} for label in named]
    for index in sorted(range(len(dataset)) if chosen is None else chosen):
        target = dataset.target(index)
        keep = np.isin(target.labels.numpy(), list(labelled))
        if not keep.any():
            continue
        path = Path(dataset.paths[index])
        height, width = shrink(path, out / "images" / path.name)
        scale = np.array([width, height] * 2) / dataset.sizes[index][[1, 0, 1, 0]]
        image_id = int(path.stem.replace("_", ""))
        tree["images"].append({"id": image_id, "file_name": path.name, "height": height, "width": width})
        for box, label, ignore in zip(
            target.boxes.numpy()[keep], target.labels[keep], target.ignore[keep], strict=True
        ):
            x1, y1, x2, y2 = (box * scale).round(2).tolist()
            entry = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(ignore)}
            place = {"id": len(tree["annotations"]) + 1, "image_id": image_id, "category_id": int(label)}
            tree["annotations"].append(place | entry)
    return tree


def shrink(path: Path, to: Path) -> tuple[int, int]:
    """Write the image with a longer side of ``SIDE`` pixels, once; return its height and width."""
    if not to.exists():
        image = cv2.imread(str(path))
        factor = SIDE / max(image.shape[:2])
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        cv2.imwrite(str(to), cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 95])
    height, width = cv2.imread(str(to)).shape[:2]
    return height, width


def run_seed(out: Path, seed: int) -> None:
    """Train and evaluate the four detectors."""
    old = str(out / f"old-{seed}")
    first = ["--cfg", str(CFG), "--weights", "efficientnet-lite0"]
    second = ["--epochs", str(ADDED_EPOCHS)]
    trainings = {
        "old": [*first, "--data", str(out / "old.yaml")],
        "added": ["--weights", old, "--add-classes", str(out / "new.yaml"), *second],
        "finetuned": ["--cfg", str(CFG), "--weights", old, "--data", str(out / "new-named.yaml"), *second],
        "joint": [*first, "--data", str(out / "all.yaml")],
    }
    for name, words in trainings.items():
        run, results = out / f"{name}-{seed}", out / f"{name}-{seed}.json"
        if results.exists():
            continue
        resumed = ["--resume", str(run)] if (run / "last.pt").exists() else [*words, "--seed", str(seed)]
        yolofpn("train", *resumed, "--output", str(run))
        evaluation = ["--weights", str(run), "--data", str(out / "all.yaml"), "--backend", "torch", "--workers", "0"]
        yolofpn("evaluate", *evaluation, "--output", str(out / f"evaluation-{name}-{seed}"), "--json", str(results))


def yolofpn(*words: str) -> None:
    """Run a command in a process of its own."""
    subprocess.run([sys.executable, "-m", "yolofpn", *words], cwd=ROOT, check=True)


def table(out: Path, seeds: list[int]) -> str:
    """Format AP50 of old and new classes: means over the classes, and over the seeds with their standard deviation."""
    rows = ["| detector | seeds | AP50, 15 old | AP50, 5 new | AP50, 20 |", "| --- | --- | --- | --- | --- |"]
    for name in ("old", "added", "finetuned", "joint"):
        files = [path for seed in seeds if (path := out / f"{name}-{seed}.json").exists()]
        values = np.array([ap50s(json.loads(path.read_text())["per_class"]) for path in files])
        if len(values):
            means, spread = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else None
            cells = [f"{mean:.3f}" + ("" if spread is None else f" ± {spread[i]:.3f}") for i, mean in enumerate(means)]
            rows.append(f"| {name} | {len(values)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def ap50s(per_class: list[dict[str, Any]]) -> list[float]:
    """Mean AP50 of the old, the new and all classes; classes that the detector does not have count 0."""
    by_name = {each["name"]: max(0.0, each["AP50"]) for each in per_class}
    means = [float(np.mean([by_name[VOC_NAMES[label]] for label in group])) for group in (OLD, NEW, ALL)]
    return means


if __name__ == "__main__":
    main()
