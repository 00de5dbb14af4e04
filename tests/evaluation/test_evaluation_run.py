"""evaluate.py as a whole, on images whose numbers can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from tests.evaluation.squares import (
    Square,
    metadata_of_finder,
    square_finder,
    write_darknet_finder,
    write_finder,
    write_squares,
)
from yolofpn.cli.evaluate import main
from yolofpn.config import PostprocessConfig
from yolofpn.data.images import read_image
from yolofpn.evaluation.class_groups import write_class_groups
from yolofpn.evaluation.evaluation_run import EvaluateOptions, evaluate
from yolofpn.evaluation.output_files import write_truth
from yolofpn.inference.load_detector import load_detector
from yolofpn.types import ResizeMode
from yolofpn.weights import save_weights

IMAGES = [
    [Square("red", 1, 1, 0.9), Square("blue", 4, 4)],
    [Square("red", 2, 2, 0.8), Square("red", 5, 5, labelled=False)],  # the surest of the reds is wrong
    [Square("blue", 3, 6, painted=False)],  # an object that is not found
    [],
]


def write_scene(folder: Path) -> Path:
    return write_squares(folder, IMAGES, categories={"Blue": 7, "red": 3})


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "data")


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return write_finder(tmp_path / "finder.safetensors")


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the time of so small an evaluation."""
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)


def run(tmp_path: Path, data: Path, weights: Path, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Exit code and numbers."""
    options = {"workers": 0, "output": tmp_path / "out", "json": tmp_path / "numbers.json", **changes}
    code = evaluate(EvaluateOptions(data=str(data), weights=str(weights), **options))
    return code, json.loads((tmp_path / "numbers.json").read_text())


@pytest.mark.slow
def test_the_numbers_are_those_worked_out_by_hand(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, numbers = run(tmp_path, scene, finder)
    assert code == 0
    # red: false, true, true of 2 objects: precision 2/3 everywhere. blue: 1 of 2 found, so precision 1 up to recall .5
    red, blue = 2 / 3, 51 / 101
    assert numbers["AP"] == pytest.approx((red + blue) / 2)
    assert [numbers[key] for key in ("AP50", "AP75", "APs")] == pytest.approx([numbers["AP"]] * 3)
    assert numbers["APm"] == numbers["APl"] == -1
    assert numbers["AR1"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert numbers["AR100"] == pytest.approx((1 + 1 / 2) / 2)
    assert numbers["voc07_mAP"] == pytest.approx((red + 6 / 11) / 2)
    assert numbers["voc10_mAP"] == pytest.approx((red + 1 / 2) / 2)
    assert numbers["images"] == 4
    assert numbers["seconds"] > 0
    by_name = {each["name"]: each for each in numbers["per_class"]}
    assert by_name["red"]["AP50"] == pytest.approx(red)
    assert [by_name["red"][key] for key in ("TP", "FP", "FN")] == [2, 1, 0]
    assert [by_name["Blue"][key] for key in ("TP", "FP", "FN")] == [1, 0, 1]
    assert by_name["Blue"]["F1"] == pytest.approx(2 / 3)

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["classes:", "2", "of", "the", "weights'", "2", "matched", "by", "name"] in lines
    assert ["AP", "0.586", "AP50", "0.586", "AP75", "0.586", "APs", "0.586", "APm", "-", "APl", "-"] in lines
    assert ["red", "2", "0.667", "2", "1", "0", "0.667", "1.000", "0.800"] in lines
    assert ["Blue", "2", "0.505", "1", "0", "1", "1.000", "0.500", "0.667"] in lines
    assert ["all", "classes", "4", "0.586", "3", "1", "1", "0.750", "0.750", "0.750"] in lines


@pytest.mark.usefixtures("no_plots")
def test_json_holds_the_agreed_keys(scene: Path, finder: Path, tmp_path: Path) -> None:
    write_class_groups(finder.parent, (("horse",), ("red",)))  # of other weights
    _, numbers = run(tmp_path, scene, finder)
    coco = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(numbers) == [*coco, "voc07_mAP", "voc10_mAP", "per_class", "images", "seconds"]
    _, with_proposals = run(tmp_path, scene, finder, detections_per_img=1000)
    assert with_proposals.keys() - numbers.keys() == {"AR1000"}
    assert with_proposals["AR1000"] == pytest.approx(3 / 4)


@pytest.mark.usefixtures("no_plots")
def test_the_report_threshold_moves_the_counts_alone(scene: Path, finder: Path, tmp_path: Path) -> None:
    _, at_25 = run(tmp_path, scene, finder)
    _, at_95 = run(tmp_path, scene, finder, report_thresh=0.95)
    red = next(each for each in at_95["per_class"] if each["name"] == "red")
    assert [red[key] for key in ("TP", "FP", "FN")] == [0, 1, 2]
    assert at_95["AP"] == at_25["AP"]


@pytest.mark.usefixtures("no_plots")
def test_pycocotools_reads_the_detections_and_agrees(scene: Path, finder: Path, tmp_path: Path) -> None:
    _, numbers = run(tmp_path, scene, finder)
    results = json.loads((tmp_path / "out" / "detections.coco.json").read_text())
    assert {(result["image_id"], result["category_id"]) for result in results} == {(10, 3), (10, 7), (20, 3)}
    assert len(results) == 4
    truth = COCO(str(scene.parent / "truth.json"))
    judge = COCOeval(truth, truth.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert [numbers[key] for key in keys] == pytest.approx(judge.stats.tolist())


@pytest.mark.usefixtures("no_plots")
def test_verify_lets_pycocotools_compute_the_same_from_the_files(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--weights", str(finder), "--data", str(scene), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*words, "--verify"]) == 0
    assert "verify: pycocotools agrees" in capsys.readouterr().out
    truth = COCO(str(tmp_path / "out" / "truth.coco.json"))
    assert {entry["name"]: number for number, entry in truth.cats.items()} == {"red": 3, "Blue": 7}
    assert len(truth.anns) == 4
    # One object less in the file is another AP, which has to be seen.
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_truth", _write_truth_without_one)
    assert main([*words, "--verify"]) == 1
    error = capsys.readouterr().err
    assert "verify: pycocotools differs" in error and len(error.splitlines()) == 1


def _write_truth_without_one(path: Path, *rest: Any) -> None:
    write_truth(path, *rest)
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "annotations": tree["annotations"][1:]}))


@pytest.mark.usefixtures("no_plots")
def test_nothing_found_is_verified_too(scene: Path, finder: Path, tmp_path: Path) -> None:
    code, numbers = run(tmp_path, scene, finder, verify=True, score_thresh=0.999)
    assert (code, numbers["AP"]) == (0, 0)


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("number", [str, "image {}".format, lambda i: 2**70 + i, lambda i: i if i > 10 else str(i)])
def test_files_have_the_ids_of_the_annotations_whatever_they_are(
    number: Callable[[int], int | str], scene: Path, finder: Path, tmp_path: Path
) -> None:
    tree = json.loads((scene.parent / "truth.json").read_text())
    for entry in tree["images"]:
        entry["id"] = number(entry["id"])
    for entry in tree["annotations"]:
        entry |= {"image_id": number(entry["image_id"]), "category_id": f"class {entry['category_id']}"}
    for entry in tree["categories"]:
        entry["id"] = f"class {entry['id']}"
    (scene.parent / "truth.json").write_text(json.dumps(tree))
    code, numbers = run(tmp_path, scene, finder, verify=True)
    assert code == 0
    assert numbers["AP"] == pytest.approx((2 / 3 + 51 / 101) / 2)
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [(entry["id"], Path(entry["file_name"]).name) for entry in images] == [
        (number(10 * (i + 1)), f"p{i}.png") for i in range(4)
    ]
    results = json.loads((tmp_path / "out" / "detections.coco.json").read_text())
    assert {result["image_id"] for result in results} == {number(10), number(20)}
    assert {result["category_id"] for result in results} == {"class 3", "class 7"}


@pytest.mark.usefixtures("no_plots")
def test_images_without_coco_ids_are_listed_with_theirs(tmp_path: Path, finder: Path) -> None:
    for name in ("b", "a"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((32, 48, 3), np.uint8))
        (tmp_path / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text("train: .\nval: .\nnames: [red, blue]\n")
    assert run(tmp_path, tmp_path / "data.yaml", finder)[0] == 0
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert images == [
        {"id": number, "file_name": str(tmp_path / f"{name}.png"), "width": 48, "height": 32}
        for number, name in enumerate("ab")
    ]


@pytest.mark.usefixtures("no_plots")
def test_more_objects_than_the_limits_are_told(
    tmp_path: Path, finder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    squares = [Square("red", row, column) for row in range(8) for column in range(8)]
    scene = write_squares(tmp_path / "data", [squares * 2], categories={"red": 1, "blue": 2})
    _, numbers = run(tmp_path, scene, finder)
    out = capsys.readouterr().out
    assert "limit: 1 image has more than 100 objects of a class (up to 128)" in out
    assert "with up to 300 detections" in out
    assert numbers["AP_at_max_det"] == pytest.approx(numbers["AP"])  # the network makes 64
    run(tmp_path, scene, finder, detections_per_img=20)
    assert "limit: 1 image has more than 20 objects (up to 128)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shortest-edge"])
def test_any_batch_size_finds_what_detection_finds(resize: ResizeMode, tmp_path: Path) -> None:
    # 40 x 88 pixels: the network's input is smaller or larger, and for shortest-edge no multiple of its stride
    images = [[Square("red", 1, 2), Square("blue", 3, 8)], [Square("blue", 2, 5, 0.9)], [Square("red", 0, 0)]]
    data = write_squares(tmp_path / "data", images, categories={"red": 1, "blue": 2}, size=(40, 88))
    weights = write_finder(tmp_path / "finder.safetensors", metadata_of_finder(resize=resize))
    detector = load_detector(weights, img_size=(44, 100) if resize == "shortest-edge" else None, score_thresh=0.001)
    paths = sorted((tmp_path / "data" / "images").iterdir())
    expected = [[round(side, 2) for side in box] for path in paths for box in detector(path).boxes.tolist()]
    assert expected
    for batch_size in (1, 2, 3):
        run(tmp_path, data, weights, batch_size=batch_size, img_size=detector.img_size, nms_thresh=0.45)
        results = json.loads((tmp_path / "out" / "detections.coco.json").read_text())
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (result["bbox"] for result in results)]
        assert boxes == [pytest.approx(box, abs=0.01) for box in expected]


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_same_numbers_for_any_batch_size_and_number_of_workers(scene: Path, finder: Path, tmp_path: Path) -> None:
    runs = []
    for batch_size, workers in ((1, 0), (3, 0), (4, 0), (3, 1)):
        _, numbers = run(tmp_path, scene, finder, batch_size=batch_size, workers=workers)
        runs.append({key: value for key, value in numbers.items() if key != "seconds"})
    assert runs[0] == runs[1] == runs[2] == runs[3]


@pytest.mark.usefixtures("no_plots")
def test_darknet_weights(scene: Path, tmp_path: Path) -> None:
    code, numbers = run(tmp_path, scene, write_darknet_finder(tmp_path), resize="stretch")
    assert code == 0
    assert numbers["AP"] == pytest.approx((2 / 3 + 51 / 101) / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_writes_curves_numbers_and_the_worst_images(scene: Path, finder: Path, tmp_path: Path) -> None:
    _, numbers = run(tmp_path, scene, finder)
    output = tmp_path / "out"
    for name in ("precision_recall.png", "f1.png", "confusion.png"):
        assert min(read_image(output / name).shape[:2]) > 400
    stored = json.loads((output / "results.json").read_text())
    assert stored.pop("settings")["weights"] == str(finder)
    assert stored == numbers
    worst = sorted(path.name for path in (output / "worst").iterdir())
    assert worst == ["01_p1_0_missed_1_false.jpg", "02_p2_1_missed_0_false.jpg"]
    truth_and_found = read_image(output / "worst" / worst[0])
    assert truth_and_found.shape == (64, 64 + 8 + 64, 3)
    truth, found = truth_and_found[:, :64].astype(int), truth_and_found[:, -64:].astype(int)
    difference = abs(truth - found).max(axis=2)
    assert difference[40:48, 40:48].max() > 100  # the wrong one has a box at the right alone
    assert difference[56:, :8].max() < 60


@pytest.mark.usefixtures("no_plots")
def test_classes_that_the_data_lacks_take_no_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [[Square("red", 1, 1, 0.8), Square("blue", 4, 4, labelled=False)]]
    data = write_squares(tmp_path / "data", images, categories={"red": 1, "green": 2})
    code, numbers = run(tmp_path, data, write_finder(tmp_path / "w.safetensors"), detections_per_img=1)
    assert code == 0
    assert numbers["AP"] == pytest.approx(1)  # though the blue square is surer, and one detection is all that is kept
    printed = capsys.readouterr().out
    assert "1 of the weights' 2 matched by name; only in the weights: blue; only in the data: green" in printed


@pytest.mark.usefixtures("no_plots")
def test_no_class_in_common(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "my.names"
    names.write_text("cat\ndog\n")
    three = write_squares(tmp_path / "three", [[Square("red", 1, 1)]], categories={"red": 1, "a": 2, "b": 3})
    weights = write_finder(tmp_path / "w.safetensors")
    arguments = ["--weights", str(weights), "--names", str(names), "--output", str(tmp_path / "out"), "--workers", "0"]
    assert main([*arguments, "--data", str(three)]) == 2
    assert "no class in common: the weights have cat, dog\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--data", str(scene)]) == 0
    assert "matched by order" in capsys.readouterr().out


@pytest.mark.usefixtures("no_plots")
def test_unreadable_images_count_as_failures(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = scene.parent / "images" / "p0.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    code, numbers = run(tmp_path, scene, finder)
    assert code == 1
    assert numbers["images"] == 4
    by_name = {each["name"]: each for each in numbers["per_class"]}
    assert [by_name["red"][key] for key in ("TP", "FP", "FN")] == [1, 1, 1]
    assert [by_name["Blue"][key] for key in ("TP", "FP", "FN")] == [0, 0, 2]
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"failed: {damaged}: ")
    assert errors[1] == "failed: 1 image could not be read: what they show counts as not found"
    assert sorted(path.name[:5] for path in (tmp_path / "out" / "worst").iterdir()) == ["01_p1", "02_p2"]


@pytest.mark.usefixtures("no_plots")
def test_missing_images_count_as_failures(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene.parent / "images" / "p3.png").unlink()
    code, numbers = run(tmp_path, scene, finder)
    assert (code, numbers["images"]) == (1, 3)
    assert "1 image is missing and not evaluated" in capsys.readouterr().err


def test_nothing_readable(scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (scene.parent / "images").iterdir():
        path.write_bytes(b"no image")
    arguments = ["--data", str(scene), "--weights", str(finder), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {scene}: none of the 4 images of 'val' can be read"


def test_damaged_weights(scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = square_finder()
    torch.nn.init.constant_(network.weight_layers()[0].conv.weight, float("nan"))
    save_weights(finder, network.state_dict(), metadata_of_finder())
    assert main(["--data", str(scene), "--weights", str(finder), "--workers", "0", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: the network's output is NaN")


@pytest.mark.usefixtures("no_plots")
def test_stored_thresholds_are_the_default_of_detection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # reds: ten true ones of score .98, four false ones of .92 and one of .69
    reds = [Square("red", row, 1) for row in range(8)] + [Square("red", row, 3) for row in range(2)]
    false = [Square("red", row, 5, 0.9, labelled=False) for row in (1, 2, 3, 4)]
    data = write_squares(tmp_path / "data", [[*reds, *false]], categories={"red": 1})
    metadata = metadata_of_finder(postprocess=PostprocessConfig(score_thresh=0.3))
    weights = write_finder(tmp_path / "w.safetensors", metadata)
    stored = tmp_path / "with_thresholds.safetensors"
    code, _ = run(tmp_path, data, weights, save_thresholds=stored)
    assert code == 0
    assert "mean F1 of the classes 1.000 (0.833 with 0.25 for all)" in capsys.readouterr().out
    detector = load_detector(stored)
    assert isinstance(detector.limits.score_thresh, tuple)
    red, blue = detector.limits.score_thresh
    assert 0.917 < red < 0.982  # between the true and the false ones
    assert blue == 0.3  # which the data set lacks
    assert len(detector(tmp_path / "data" / "images" / "p0.png")) == 10
    assert len(load_detector(weights)(tmp_path / "data" / "images" / "p0.png")) == 14
    assert detector.metadata.model_copy(update={"postprocess": metadata.postprocess}) == metadata


@pytest.mark.usefixtures("no_plots")
def test_bad_options(scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(scene), "--weights", str(finder), "--workers", "0"]
    (tmp_path / "file").write_text("")
    for extra, message in (
        (["--save-thresholds", "t.weights"], "t.weights: the file must end in .safetensors"),
        (["--output", str(tmp_path / "file")], f"{tmp_path / 'file'}: cannot be written"),
        (["--split", "tset"], "has no split 'tset'"),
        (["--img-size", "60"], "not a multiple of 8"),
        (["other"], "only one data set is possible"),
        (["model.x=1"], "model.x=1: only data.root=DIR"),
    ):
        assert main([*arguments, *extra]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
        assert len(error.splitlines()) <= 2
    assert main(["--weights", str(finder)]) == 2
    assert "give one with --data" in capsys.readouterr().err


@pytest.mark.usefixtures("no_plots")
def test_command_with_another_root_and_the_default_output(
    scene: Path, finder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "squares.yaml"
    elsewhere.write_text(scene.read_text())
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "squares.yaml", "--weights", str(finder), "--workers", "0"]) == 2
    for number in (1, 2):
        assert main(["squares.yaml", "data.root=data", "--model", str(finder), "--workers", "0"]) == 0
        assert f"results: runs/evaluate/squares-{number}" in capsys.readouterr().out
        assert (tmp_path / f"runs/evaluate/squares-{number}/results.json").is_file()
