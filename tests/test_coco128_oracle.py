"""COCO AP of real weights on real images, beside what OpenCV's Darknet reader reaches in the same way."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from tests.data.trees import write
from yolofpn.cli.detect import main as detect
from yolofpn.cli.evaluate import main as evaluate
from yolofpn.data.class_names import COCO_CATEGORY_IDS

SIZE, SCORE_THRESH, NMS_THRESH = 320, 0.005, 0.45
FEW = 10  # of the 128 images
ANNOTATIONS = "annotations/instances_train2017.json"
FLAGS = [f"--score-thresh={SCORE_THRESH}", f"--nms-thresh={NMS_THRESH}", "--max-det=10000", f"--img-size={SIZE}"]


@pytest.mark.slow
def test_ap_is_that_of_opencv(data_dir: Path, tmp_path: Path) -> None:
    name, resize = "yolo-fastest-1.1", "stretch"
    chosen, images = few_images(data_dir, tmp_path)
    truth = COCO(str(chosen))
    uncut, cut = opencv_results(name, resize, truth, images[0].parent, tmp_path)
    # With OpenCV's boxes as they are, beyond the image's edge, and COCO's 100 of an image. Of all 128 images it is
    # .1653, which was measured elsewhere, too.
    assert coco_ap(truth, best_of_each_image(uncut, 100)) == pytest.approx(0.318, abs=0.01)
    found = detected(model_flags(data_dir, name, resize, tmp_path), images, tmp_path)
    assert coco_ap(truth, found) == pytest.approx(coco_ap(truth, cut), abs=0.0005)


@pytest.mark.slow
def test_both_commands_have_the_ap_of_opencv(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger network, and letterbox."""
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)  # nobody looks at them
    name, resize = "yolo-fastest-1.1-xl", "letterbox"
    chosen, images = few_images(data_dir, tmp_path)
    truth = COCO(str(chosen))
    uncut, cut = opencv_results(name, resize, truth, images[0].parent, tmp_path)
    # Of all 128 images it is .2101 (.2096 was measured elsewhere).
    assert coco_ap(truth, best_of_each_image(uncut, 100)) == pytest.approx(0.341, abs=0.01)

    model = model_flags(data_dir, name, resize, tmp_path)
    ap = coco_ap(truth, detected(model, images, tmp_path))
    assert ap == pytest.approx(coco_ap(truth, cut), abs=0.0005)
    split = f"{{images: images/train2017, annotations: {chosen}}}"
    data = write(tmp_path / "few.yaml", f"format: coco\nroot: {data_dir / 'coco128'}\nsplits:\n  val: {split}\n")
    assert evaluate([f"--data={data}", *model, f"--output={tmp_path / 'out'}", f"--json={tmp_path / 'ap.json'}"]) == 0
    assert json.loads((tmp_path / "ap.json").read_text())["AP"] == pytest.approx(ap, abs=2e-4)


def few_images(data_dir: Path, folder: Path) -> tuple[Path, list[Path]]:
    """The annotations of the first images, in ``folder``, and the images."""
    annotations = json.loads((data_dir / "coco128" / ANNOTATIONS).read_text())
    annotations["images"] = annotations["images"][:FEW]
    ids = {image["id"] for image in annotations["images"]}
    annotations["annotations"] = [each for each in annotations["annotations"] if each["image_id"] in ids]
    images = data_dir / "coco128" / "images" / "train2017"
    return write(folder / "few.json", json.dumps(annotations)), [
        images / entry["file_name"] for entry in annotations["images"]
    ]


def model_flags(data_dir: Path, name: str, resize: str, folder: Path) -> list[str]:
    # OpenCV knows no DIoU: a cfg without nms_kind asks for the plain NMS of both.
    text = (data_dir / "darknet" / f"{name}.cfg").read_text()
    cfg = write(folder / f"{name}.cfg", re.sub(r"(?m)^nms_kind.*$", "", text))
    weights = data_dir / "darknet" / f"{name}.weights"
    return [*FLAGS, f"--resize={resize}", f"--weights={weights}", f"--cfg={cfg}", "--device=cpu", "--backend=torch"]


def detected(model: list[str], images: list[Path], folder: Path) -> Any:
    """COCO results of the command."""
    output = folder / "detected"
    assert detect([*map(str, images), *model, "--format=coco", "--media=none", f"--output={output}"]) == 0
    return json.loads((output / "detections.coco.json").read_text())


def opencv_results(
    name: str, resize: str, truth: COCO, images: Path, folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """COCO results of OpenCV's detections, uncut and clipped to the image."""
    weights = images.parents[2] / "darknet" / f"{name}.weights"
    # OpenCV zeroes class scores below 0.2 unless the cfg says otherwise.
    cfg = write(folder / "low.cfg", weights.with_suffix(".cfg").read_text().replace("[yolo]", "[yolo]\nthresh=0.001"))
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    outputs = net.getUnconnectedOutLayersNames()
    uncut, cut = [], []
    for image_id, entry in truth.imgs.items():
        image = np.asarray(cv2.imread(str(images / entry["file_name"])))
        square, scale, offset = to_square(image, resize)
        net.setInput(cv2.dnn.blobFromImage(square, 1 / 255, (SIZE, SIZE), swapRB=True))
        rows = np.concatenate([np.asarray(output) for output in net.forward(outputs)])
        index, labels = np.nonzero(rows[:, 5:] > SCORE_THRESH)
        scores = rows[index, 5 + labels]
        centres, sizes = np.split(rows[index, :4] * SIZE, 2, axis=1)
        low, high = (centres - sizes / 2 - offset) / scale, (centres + sizes / 2 - offset) / scale
        boxes = np.concatenate([low, high - low], axis=1)
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), labels.tolist(), SCORE_THRESH, NMS_THRESH)
        size = np.array(image.shape[1::-1])
        low, high = low.clip(0, size), high.clip(0, size)
        inside = np.concatenate([low, high - low], axis=1)
        for row in np.asarray(kept, dtype=np.int64).ravel():
            result = {
                "image_id": image_id,
                "category_id": COCO_CATEGORY_IDS[labels[row]],
                "score": float(scores[row]),
            }
            uncut.append({**result, "bbox": boxes[row].tolist()})
            cut.append({**result, "bbox": inside[row].tolist()})
    return uncut, cut


def to_square(
    image: NDArray[np.uint8], resize: str
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """The network's input; scale and offset (x, y) that lead from the image to it."""
    height, width = image.shape[:2]
    if resize == "stretch":
        return image, np.array([SIZE / width, SIZE / height]), np.zeros(2)  # blobFromImage resizes it
    longer = max(height, width)
    new_height, new_width = height * SIZE // longer, width * SIZE // longer
    top, left = (SIZE - new_height) // 2, (SIZE - new_width) // 2
    square = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
    square[top : top + new_height, left : left + new_width] = cv2.resize(image, (new_width, new_height))
    return square, np.array([new_width / width, new_height / height]), np.array([float(left), float(top)])


def best_of_each_image(results: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in sorted(results, key=lambda result: -result["score"]):
        by_image.setdefault(result["image_id"], []).append(result)
    return [result for group in by_image.values() for result in group[:count]]


def coco_ap(truth: COCO, results: list[dict[str, Any]]) -> float:
    """Of objects of all sizes, without the time for small, medium and large ones."""
    judge = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")
    judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
    judge.params.maxDets = [100]
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"]
    return float(precision[precision > -1].mean())
