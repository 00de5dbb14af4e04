"""Labels of every writer through ``evaluate.py``: AP is 1 only if every box is read where it was drawn."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest

from tests.cli import label_scenes as scenes
from tests.cli.label_scenes import AT_EDGES, INCLUSIVE, INSIDE, ONE, ZERO, beside, coco, corners_of, run_lengths
from tests.commands import Outcome, call
from tests.evaluation.squares import write_finder
from tests.training.small import write_cfg
from yolofpn.__main__ import main as yolofpn
from yolofpn.cli.detect import main as detect
from yolofpn.cli.evaluate import main as evaluate
from yolofpn.cli.train import main as train
from yolofpn.data.images import readable_suffixes
from yolofpn.data.layouts import open_data

BOTH = [INSIDE, AT_EDGES]


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_finder(tmp_path_factory.mktemp("weights") / "finder.safetensors")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)


@pytest.fixture
def measure(finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[float, Outcome]]:
    """AP of a detector that finds all squares, and what the command left behind."""

    def run(data: Path, *words: object) -> tuple[float, Outcome]:
        numbers = tmp_path / "numbers.json"
        numbers.unlink(missing_ok=True)
        flags = ["--split", "all", "--workers", "0", "--output", tmp_path / "out", "--json", numbers]
        outcome = call(evaluate, capsys, "--weights", finder, "--data", data, *flags, *words)
        return (json.loads(numbers.read_text())["AP"] if numbers.exists() else math.nan), outcome

    return run


Measure = Callable[..., tuple[float, Outcome]]


@pytest.mark.parametrize(
    ("head", "shift", "form", "order", "squares", "said"),
    [
        ("devkit", INCLUSIVE, str, "xyXY", AT_EDGES, "devkit"),
        ("cvat", ZERO, "{:.2f}".format, "xyXY", AT_EDGES, "CVAT"),
        ("cvat", ZERO, "{:.1f}".format, "xyXY", INSIDE, "CVAT"),
        ("cvat", INCLUSIVE, str, "xyXY", INSIDE, "1-based"),  # datumaro's coordinate_mode="voc-one-based"
        ("labelimg", ZERO, str, "xyXY", INSIDE, "LabelImg"),
        ("labelstudio", ZERO, str, "xyXY", AT_EDGES, "Label Studio"),
        ("labelstudio", ZERO, str, "xyXY", INSIDE, "Label Studio"),
        ("roboflow", ONE, str, "xXyY", AT_EDGES, "Roboflow"),
        ("roboflow", ONE, str, "xXyY", INSIDE, "Roboflow"),
        ("makesense", ZERO, str, "xyXY", INSIDE, "labelling tool"),
        ("supervision", ONE, str, "xyXY", AT_EDGES, "plus 1"),
        ("supervision", INCLUSIVE, str, "xyXY", AT_EDGES, "1-based"),
        ("devkit", ZERO, str, "xyXY", AT_EDGES, "0-based"),  # a script with the devkit's head
        ("nobody", INCLUSIVE, str, "xyXY", INSIDE, "1-based"),
        ("nobody", ZERO, str, "xyXY", AT_EDGES, "0-based"),
        ("nobody", ZERO, "{:.3f}".format, "xyXY", INSIDE, "0-based"),
        ("nobody", ONE, str, "xyXY", AT_EDGES, "plus 1"),
        ("nobody", ONE, str, "xXyY", INSIDE, "Roboflow"),
    ],
)
def test_voc_corners_of_each_writer(
    head: str,
    shift: tuple[int, ...],
    form: Callable[[int], str],
    order: str,
    squares: Any,
    said: str,
    tmp_path: Path,
    measure: Measure,
) -> None:
    ap, outcome = measure(beside(tmp_path / "data", [squares], scenes.voc(head, shift, form, order)))
    assert ap == pytest.approx(1)
    assert [said in line for line in outcome.out.splitlines() if "VOC corners" in line] == [True]
    assert outcome.code == 0


def test_voc_files_of_several_writers_in_one_set(tmp_path: Path, measure: Measure) -> None:
    beside(tmp_path / "data", [INSIDE], scenes.voc("devkit", INCLUSIVE), "a")
    beside(tmp_path / "data", [AT_EDGES], scenes.voc("cvat", ZERO, "{:.1f}".format), "b")
    beside(tmp_path / "data", [INSIDE], scenes.voc("roboflow", ONE, str, "xXyY"), "c")
    ap, outcome = measure(tmp_path / "data")
    assert ap == pytest.approx(1)
    assert all(writer in outcome.out for writer in ("devkit", "CVAT", "Roboflow"))


def test_voc_corners_can_be_set_and_a_wrong_tool_is_refused(tmp_path: Path, measure: Measure) -> None:
    data = beside(tmp_path / "data", [INSIDE], scenes.voc("nobody", ZERO))
    assert measure(data)[0] < 1
    for tool in ("labelimg", "LabelImg", "Label-Studio"):
        assert measure(data, f"data.voc_corners={tool}")[0] == pytest.approx(1)
    _, outcome = measure(data, "data.voc_corners=paint")
    assert outcome.code == 2
    assert "voc_corners" in outcome.err and len(outcome.err.splitlines()) <= 2
    (data / "data.yaml").write_text("format: voc\nvoc_corners: cvat\nsplits: {train: {images: .}}\n")
    assert measure(data)[0] == pytest.approx(1)


def test_voc_images_that_were_resized_after_labelling(tmp_path: Path, measure: Measure) -> None:
    ap, outcome = measure(beside(tmp_path / "data", BOTH, scenes.voc("devkit", INCLUSIVE, scale=4)))
    assert ap == pytest.approx(1)
    assert "2 of 2 images looked at were resized" in outcome.out


def test_a_wrong_size_beside_right_boxes_moves_nothing(tmp_path: Path, measure: Measure) -> None:
    data = beside(tmp_path / "data", [INSIDE], scenes.voc("devkit", INCLUSIVE))
    text = (data / "a.xml").read_text()
    (data / "a.xml").write_text(text.replace("<width>64</width>", "<width>32</width>"))
    ap, outcome = measure(data)
    assert ap == pytest.approx(1)
    assert "resized" not in outcome.out


def test_a_rectangle_that_cvat_turned_is_read_as_the_upright_box_around_it(tmp_path: Path, measure: Measure) -> None:
    def turn(text: str) -> str:
        # A square of side 8 / sqrt(2) that is turned by 45 degrees fills the square around it that is painted.
        for _, (x1, y1, x2, y2) in INSIDE:
            sides = {"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2}
            half = 4 / math.sqrt(2)
            middle = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2}
            new = {key: middle[key[0]] + (half if key.endswith("max") else -half) for key in sides}
            old = "".join(f"<{key}>{value:.1f}</{key}>" for key, value in sides.items())
            text = text.replace(old, "".join(f"<{key}>{value:.6f}</{key}>" for key, value in new.items()))
        rotation = "<attributes><attribute><name>rotation</name><value>45.0</value></attribute></attributes>"
        return text.replace("</bndbox>", f"</bndbox>{rotation}")

    data = beside(tmp_path / "data", [INSIDE], scenes.voc("cvat", ZERO, "{:.1f}".format))
    (data / "a.xml").write_text(turn((data / "a.xml").read_text()))
    assert measure(data)[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("suffix", "text", "code", "said"),
    [
        ("txt", "", 1, "labels without a box"),
        ("xml", "", 2, "labels of the 2 images"),
        ("xml", "<annotation></annotation>", 1, "labels without a box"),
        ("json", '{"shapes": [], "imagePath": "a.png"}', 1, "labels without a box"),
    ],
)
def test_empty_labels_everywhere_are_a_problem(
    suffix: str, text: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = beside(tmp_path / "data", BOTH, lambda folder, stem, _: scenes.write(folder / f"{stem}.{suffix}", text))
    outcome = call(yolofpn, capsys, "check", data, "--split", "train")
    assert outcome.code == code
    assert "no problems" not in outcome.out
    assert said in outcome.out + outcome.err
    assert len(outcome.err.splitlines()) <= 2


# COCO


def brush(tree: dict[str, Any]) -> None:
    for annotation in tree["annotations"]:
        annotation["segmentation"] = {"counts": run_lengths(corners_of(annotation)), "size": [64, 64]}
        annotation |= {"iscrowd": 1, "attributes": {"occluded": False}}


def brush_without_a_name(tree: dict[str, Any]) -> None:
    brush(tree)
    for annotation in tree["annotations"]:
        del annotation["attributes"]


def turned(tree: dict[str, Any]) -> None:
    for annotation in tree["annotations"]:
        x, y, side, _ = annotation["bbox"]
        inset = side / 2 - side / math.sqrt(8)
        annotation["bbox"] = [x + inset, y + inset, side / math.sqrt(2), side / math.sqrt(2)]
        annotation |= {"segmentation": [], "attributes": {"occluded": False, "rotation": -45.0}}


def polygon_only(tree: dict[str, Any]) -> None:
    for annotation in tree["annotations"]:
        del annotation["bbox"]


def mask_only(tree: dict[str, Any]) -> None:
    for annotation in tree["annotations"]:
        annotation["segmentation"] = {"counts": run_lengths(corners_of(annotation)), "size": [64, 64]}
        annotation["bbox"] = []


def ids(image: Callable[[int], Any], category: Callable[[int], Any] = int) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        for entry in tree["images"]:
            entry["id"] = image(entry["id"])
        for entry in tree["categories"]:
            entry["id"] = category(entry["id"])
        for entry in tree["annotations"]:
            entry |= {"image_id": image(entry["image_id"]), "category_id": category(entry["category_id"])}

    return change


def mixed_ids(tree: dict[str, Any]) -> None:
    for entry in tree["annotations"]:
        entry |= {"image_id": str(entry["image_id"]), "category_id": float(entry["category_id"])}


def text_numbers(tree: dict[str, Any]) -> None:
    for entry in tree["images"]:
        entry |= {"width": "64", "height": "64"}
    for entry in tree["annotations"]:
        entry |= {"bbox": [f"{side:.1f}" for side in entry["bbox"]], "area": "64", "iscrowd": "0"}


def resized(tree: dict[str, Any]) -> None:
    for entry in tree["images"]:
        entry |= {"width": 192, "height": 128}
    for entry in tree["annotations"]:
        entry["bbox"] = [side * factor for side, factor in zip(entry["bbox"], (3, 2, 3, 2), strict=True)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (brush, "6 masks marked iscrowd are taken as objects, as CVAT"),
        (brush_without_a_name, "6 masks marked iscrowd are taken as objects, as nobody"),
        (turned, ""),
        (polygon_only, ""),
        (mask_only, ""),
        (ids(str), ""),
        (ids(lambda number: f"a9f{number}"), ""),
        (ids(lambda number: 2**53 + number), ""),
        (ids(lambda number: 2**80 + number), ""),
        (ids(lambda number: 1700000000000000000 + number, lambda number: 2**60 + number), ""),
        (ids(int, "class {}".format), ""),
        (mixed_ids, ""),
        (text_numbers, ""),
        (resized, "2 of 2 images looked at were resized"),
    ],
)
def test_coco_files_of_other_writers(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path, measure: Measure
) -> None:
    ap, outcome = measure(coco(tmp_path / "data", BOTH, change))
    assert ap == pytest.approx(1)
    assert said in outcome.out
    assert outcome.code == 0


@pytest.mark.parametrize("part", ["images", "categories"])
def test_coco_files_with_an_id_twice_are_refused(part: str, tmp_path: Path, measure: Measure) -> None:
    def repeat(tree: dict[str, Any]) -> None:
        tree[part][1]["id"] = str(tree[part][0]["id"])  # the same in quotes

    _, outcome = measure(coco(tmp_path / "data", BOTH, repeat))
    assert outcome.code == 2
    assert f"two of its {part}" in outcome.err
    assert len(outcome.err.splitlines()) <= 2


def test_crowds_of_coco_stay_crowds(tmp_path: Path, measure: Measure) -> None:
    def crowd(tree: dict[str, Any]) -> None:
        first = tree["annotations"][0]
        first["segmentation"] = {"counts": run_lengths(corners_of(first)), "size": [64, 64]}
        first |= {"iscrowd": 1, "id": 900100000001}

    ap, outcome = measure(coco(tmp_path / "data", BOTH, crowd))
    assert ap == pytest.approx(1)  # a detection of a crowd counts neither way
    assert "1 marked iscrowd are crowds" in outcome.out


def test_other_coco_names_and_folders_are_recognised(tmp_path: Path, measure: Measure) -> None:
    def placeholder(tree: dict[str, Any]) -> None:
        tree["categories"].insert(0, {"id": 0, "name": "__ignore__", "supercategory": None})
        for image in tree["images"]:
            image["file_name"] = f"JPEGImages/{image['file_name']}"

    data = coco(tmp_path / "data", BOTH, placeholder)
    (data / "annotations" / "instances_default.json").rename(data / "annotations.json")
    (data / "images").rename(data / "JPEGImages")
    ap, outcome = measure(data)
    assert ap == pytest.approx(1)
    assert "6 boxes, 2 classes" in outcome.out


def test_names_in_either_unicode_form(tmp_path: Path, measure: Measure) -> None:
    def accents(tree: dict[str, Any]) -> None:
        for image in tree["images"]:
            image["file_name"] = f"été{image['file_name']}"

    data = coco(tmp_path / "coco", BOTH, accents)
    for path in (data / "images").iterdir():
        path.rename(path.with_name(scenes.decomposed(f"été{path.name}")))
    assert measure(data)[0] == pytest.approx(1)
    line = scenes.yolo(lambda label, box: f"{label} {' '.join(map(str, box))}")
    texts = beside(tmp_path / "yolo", [INSIDE], line, ["naïf"])
    (texts / "naïf.txt").rename(texts / scenes.decomposed("naïf.txt"))
    scenes.write(texts / "classes.txt", "red\nblue\n")
    assert measure(texts)[0] == pytest.approx(1)


# YOLO


def numbers(*values: float) -> str:
    return " ".join(f"{value:g}" for value in values)


@pytest.mark.parametrize(
    ("line", "head", "said"),
    [
        (lambda label, box: numbers(label, *box, *[0.1, 0.9, 2] * 17), "kpt_shape: [17, 3]\n", "keypoints"),
        (lambda label, box: numbers(label, *box, *[0.1, 0.9] * 8), "kpt_shape: [8, 2]\n", "keypoints"),
        (lambda label, box: numbers(label, *box, *[0.1, 0.9, 0] * 4), "kpt_shape: [4, 3]\n", "keypoints"),
        (lambda label, box: numbers(label, *box), "kpt_shape: [4, 3]\n", ""),
        (lambda label, box: numbers(label, *box, 0.873, 7), "", "seven columns"),
        (lambda label, box: numbers(label, *box, 0.5, 1), "", "seven columns"),
        (lambda label, box: numbers(label, *box, 12), "", ""),
        (lambda label, box: numbers(label + 1, *box), "", "begin at 1"),
        (lambda label, box: " ".join(f"{value:.18e}" for value in (label, *box)), "", ""),
    ],
)
def test_yolo_lines_of_every_kind(
    line: Callable[..., str], head: str, said: str, tmp_path: Path, measure: Measure
) -> None:
    data = beside(tmp_path / "data", BOTH, scenes.yolo(line))
    scenes.write(data / "data.yaml", f"{head}train: .\nval: .\nnames: [red, blue]\n")
    ap, outcome = measure(data, "--split", "val")
    assert ap == pytest.approx(1)
    assert said in outcome.out


def test_triangles_stay_triangles(tmp_path: Path, measure: Measure) -> None:
    def triangle(label: int, box: Sequence[float]) -> str:
        x, y, width, height = box
        left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        return numbers(label, left, top, right, top, left, bottom)

    data = beside(tmp_path / "data", [AT_EDGES], scenes.yolo(triangle))
    scenes.write(data / "classes.txt", "red\nblue\n")
    assert measure(data)[0] == pytest.approx(1)


def test_classes_as_floats_without_names_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = beside(tmp_path / "data", BOTH, scenes.yolo(lambda label, box: " ".join(f"{v:.18e}" for v in (label, *box))))
    outcome = call(yolofpn, capsys, "check", data, "--split", "train", "--no-decode")
    assert outcome.code == 0
    assert "2 classes" in outcome.out


# Others


def test_labelme_s_folder(tmp_path: Path, measure: Measure) -> None:
    data = beside(tmp_path / "data", BOTH, scenes.labelme)
    (data / "a.json").rename(data / "other.json")  # which still says imagePath: a.png
    ap, outcome = measure(data)
    assert ap == pytest.approx(1)
    assert "labelme" in outcome.out


def test_cvat_for_images(tmp_path: Path, measure: Measure) -> None:
    inset = 4 - 4 / math.sqrt(2)
    shapes: dict[str, Callable[[scenes.Box], str]] = {
        "box": lambda b: f'xtl="{b[0]}.00" ytl="{b[1]}.00" xbr="{b[2]}.00" ybr="{b[3]}.00"',
        "polygon": lambda b: f'points="{b[0]}.0,{b[1]}.0;{b[2]}.0,{b[1]}.0;{b[2]}.0,{b[3]}.0"',
        "mask": lambda b: f'rle="0, 64" left="{b[0]}" top="{b[1]}" width="8" height="8"',
        "ellipse": lambda b: f'cx="{b[0] + 4}" cy="{b[1] + 4}" rx="4" ry="4"',
        "turned": lambda b: (
            f'xtl="{b[0] + inset}" ytl="{b[1] + inset}" xbr="{b[2] - inset}" ybr="{b[3] - inset}" rotation="45.0"'
        ),
    }
    labels = "".join(f"<label><name>{name}</name></label>" for name in scenes.NAMES)
    text = f"<annotations><meta><job><labels>{labels}</labels></job></meta>"
    for number, (kind, attributes) in enumerate(shapes.items()):
        scenes.paint(tmp_path / "data" / "images" / f"{number}.png", INSIDE)
        tag = "box" if kind == "turned" else kind
        inside = "".join(f'<{tag} label="{name}" occluded="0" {attributes(box)}/>' for name, box in INSIDE)
        text += f'<image id="{number}" name="{number}.png" width="64" height="64">{inside}</image>'
    scenes.write(tmp_path / "data" / "annotations.xml", text + "</annotations>")
    ap, outcome = measure(tmp_path / "data")
    assert ap == pytest.approx(1)
    assert "CVAT for images" in outcome.out


def test_turned_ellipses_of_cvat(tmp_path: Path, measure: Measure) -> None:
    # Half axes 5 and sqrt(7) at 45 degrees: sqrt((25 + 7) / 2) = 4 to each side. A rectangle would be 5.4.
    inside = "".join(
        f'<ellipse label="{name}" cx="{x1 + 4}" cy="{y1 + 4}" rx="5" ry="{math.sqrt(7)}" rotation="45.0"/>'
        for name, (x1, y1, _, _) in INSIDE
    )
    scenes.paint(tmp_path / "data" / "images" / "0.png", INSIDE)
    image = f'<image id="0" name="0.png" width="64" height="64">{inside}</image>'
    scenes.write(tmp_path / "data" / "annotations.xml", f"<annotations>{image}</annotations>")
    assert measure(tmp_path / "data")[0] == pytest.approx(1)


def test_files_that_are_no_images_are_counted_by_detect_too(
    finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = beside(tmp_path / "data", [INSIDE], lambda *_: None)
    for name in ("b.heic", "c.psd"):
        (data / name).write_bytes(b"something")
    outcome = call(detect, capsys, data, "--weights", finder, "--output", tmp_path / "out", "--media", "none")
    assert outcome.code == 0
    assert [line.count("2 files beside") for line in outcome.out.splitlines() if "beside the images" in line] == [1]


def test_heic_is_read_where_pillow_heif_is_installed(
    tmp_path: Path, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register() -> None:
        PIL.Image.register_extension("PNG", ".heic")

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    readable_suffixes.cache_clear()
    try:
        data = beside(tmp_path / "data", BOTH, scenes.voc("cvat", ZERO, "{:.1f}".format))
        (data / "b.png").rename(data / "b.heic")
        ap, outcome = measure(data)
    finally:
        readable_suffixes.cache_clear()
    assert ap == pytest.approx(1)
    assert "2 images, 6 boxes" in outcome.out
    assert "not read" not in outcome.out


@pytest.mark.slow
def test_one_image_trains_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = beside(tmp_path / "data", [INSIDE], scenes.voc("devkit", INCLUSIVE))
    write_cfg(tmp_path)
    words = ["--cfg", tmp_path / "small.yaml", "--data", data, "--device", "cpu", "--epochs", 1]
    outcome = call(train, capsys, *words, "--output", tmp_path / "run")
    assert outcome.code == 0
    assert "one image only" in outcome.out
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    assert call(yolofpn, capsys, "check", data).out.splitlines()[-1] == "no problems found"


@pytest.mark.slow
def test_training_says_how_labels_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = beside(tmp_path / "data", BOTH, scenes.voc("labelimg", ZERO, scale=2))
    write_cfg(tmp_path)
    words = ["--cfg", tmp_path / "small.yaml", "--data", data, "--device", "cpu", "--dry-run"]
    outcome = call(train, capsys, *words, "--output", tmp_path / "run")
    assert outcome.code == 0
    assert "of LabelImg" in outcome.out
    assert "were resized after labelling" in outcome.out
    outcome = call(train, capsys, *words, "--output", tmp_path / "other", "data.voc_corners=devkit")
    assert "as data.voc_corners=devkit asks" in outcome.out


@pytest.mark.parametrize("first", ["train", "val"])
def test_the_classes_are_those_of_train_whichever_split_is_read_first(first: str, tmp_path: Path) -> None:
    def write_split(split: str, categories: list[str]) -> None:
        tree = {"categories": [{"id": number, "name": name} for number, name in enumerate(categories)]}
        tree |= {"images": [{"id": 1, "file_name": f"{split}.png", "width": 64, "height": 64}]}
        boxes = [[8 * number, 0, 8, 8] for number in range(len(categories))]
        tree |= {
            "annotations": [{"image_id": 1, "category_id": number, "bbox": box} for number, box in enumerate(boxes)]
        }
        scenes.paint(tmp_path / "images" / split / f"{split}.png", [])
        scenes.write(tmp_path / "annotations" / f"instances_{split}.json", json.dumps(tree))

    write_split("train", ["cat", "dog"])
    write_split("val", ["bird", "dog", "cat"])
    source = open_data(tmp_path)
    second = "val" if first == "train" else "train"
    datasets = {split: source.load(split) for split in (first, second)}
    assert datasets["train"].names == datasets["val"].names == ("cat", "dog")
    assert datasets["val"].labels.tolist() == [1, 0]
    # The categories are found without the annotations, which may be half a gigabyte.
    path = tmp_path / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace('"annotations"', '"broken'))
    assert open_data(tmp_path).load("val").names == ("cat", "dog")


def test_files_that_are_no_images_are_counted_in_one_line(tmp_path: Path, measure: Measure) -> None:
    data = beside(tmp_path / "data", [INSIDE], scenes.voc("devkit", INCLUSIVE))
    for name in ("b.heic", "c.HEIC", "d.psd"):
        (data / name).write_bytes(b"something")
    _, outcome = measure(data)
    assert [line.count("3 files beside") for line in outcome.out.splitlines() if "beside the images" in line] == [1]
