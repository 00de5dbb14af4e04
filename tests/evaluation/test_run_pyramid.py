"""evaluate.py --pyramid and --save-proposals, beside detection and pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]
from torch import Tensor, nn

from tests.evaluation.squares import Square, metadata_of_finder, write_finder, write_squares
from yolofpn.cli.evaluate import main
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluation_run import EvaluateOptions, evaluate
from yolofpn.evaluation.proposal_recall import ProposalCollector
from yolofpn.inference.load_detector import load_detector
from yolofpn.structures import Detections, Limits

IMAGES = [
    [Square("red", 1, 1, 0.9), Square("blue", 4, 4)],
    [Square("red", 2, 2, 0.8), Square("red", 5, 5, labelled=False)],
    [Square("blue", 3, 6, painted=False), Square("red", 0, 0, 0.7)],
    [],
]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "data", IMAGES, categories={"Blue": 7, "red": 3})


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return write_finder(tmp_path / "finder.safetensors", metadata_of_finder(resize="letterbox"))


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)


def run(tmp_path: Path, data: Path, weights: Path, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Numbers and detections."""
    output = tmp_path / "out"
    options = {"workers": 0, "output": output, "json": output / "numbers.json", **changes}
    assert evaluate(EvaluateOptions(data=str(data), weights=str(weights), **options)) == 0
    numbers = json.loads((output / "numbers.json").read_text())
    del numbers["seconds"]
    return numbers, json.loads((output / "detections.coco.json").read_text())


def test_one_size_is_the_plain_run(scene: Path, finder: Path, tmp_path: Path) -> None:
    plain = run(tmp_path, scene, finder)
    assert run(tmp_path, scene, finder, pyramid=((64, 64),)) == plain
    assert plain[1]


@pytest.mark.slow
def test_a_pyramid_finds_what_detection_finds(scene: Path, finder: Path, tmp_path: Path) -> None:
    sizes = ((64, 64), (128, 128), (32, 32))
    numbers, results = run(tmp_path, scene, finder, pyramid=sizes, nms_thresh=0.3, batch_size=3)
    detector = load_detector(finder, pyramid=sizes, nms_thresh=0.3, score_thresh=0.001)
    expected = [
        (10 * (number + 1), round(score, 5), [round(side, 2) for side in box])
        for number in range(4)
        for found in [detector(tmp_path / "data" / "images" / f"p{number}.png")]
        for score, box in zip(found.scores.tolist(), found.boxes.tolist(), strict=True)
    ]
    found = [
        (result["image_id"], round(result["score"], 5), [round(x, 2), round(y, 2), round(x + w, 2), round(y + h, 2)])
        for result in results
        for x, y, w, h in [result["bbox"]]
    ]
    assert found == expected
    assert len(expected) > len(run(tmp_path, scene, finder, nms_thresh=0.3)[1])
    assert numbers["images"] == 4


def test_unreadable_images_are_reported_once(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene.parent / "images" / "p0.png").write_bytes(b"no image")
    arguments = ["--data", str(scene), "--weights", str(finder), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--pyramid", "64,32"]) == 1
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 2
    assert "input: 64x64 and 32x32, letterbox" in printed.out


def pycocotools(truth: Path, results: Path) -> dict[str, float]:
    """Recall of boxes of any class."""
    annotations = COCO(str(truth))
    judge = COCOeval(annotations, annotations.loadRes(str(results)), "bbox")
    judge.params.useCats = 0
    judge.params.maxDets = [1, 100, 1000]
    judge.evaluate()
    judge.accumulate()
    recall = judge.eval["recall"][:, 0]  # [T, A, 3]
    return {
        f"AR{limit}{size}": float(recall[:, area, place].mean())
        for place, limit in ((1, 100), (2, 1000))
        for area, size in enumerate(("", "s", "m", "l"))
    }


def test_proposals_are_those_that_pycocotools_measures(
    scene: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "new" / "proposals.json"
    numbers, detected = run(tmp_path, scene, finder, save_proposals=saved)
    results = json.loads(saved.read_text())
    assert all(set(result) == {"image_id", "category_id", "bbox", "score"} for result in results)
    assert {result["category_id"] for result in results} == {3}  # any of the data set's
    assert len(results) == 4 * 64  # every cell of every image, though most hold nothing
    for result in detected:  # the surest proposals are what is detected
        assert result["bbox"] in [each["bbox"] for each in results if each["image_id"] == result["image_id"]]
    for image_id in (10, 20, 30, 40):
        scores = [result["score"] for result in results if result["image_id"] == image_id]
        assert scores == sorted(scores, reverse=True)
    assert numbers["proposals"] == pytest.approx(pycocotools(scene.parent / "truth.json", saved))
    assert numbers["proposals"]["AR100"] == 1  # every object is a cell
    assert "AR100 1.000   AR1000 1.000   AR1000s 1.000   AR1000m     -" in capsys.readouterr().out


@pytest.mark.slow
def test_proposals_of_several_sizes(scene: Path, finder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "proposals.json"
    numbers, _ = run(tmp_path, scene, finder, save_proposals=saved, pyramid=((32, 32), (128, 128)))
    assert numbers["proposals"] == pytest.approx(pycocotools(scene.parent / "truth.json", saved))
    sides = {tuple(result["bbox"][2:]) for result in json.loads(saved.read_text())}
    assert sides == {(16, 16), (4, 4)}
    assert numbers["proposals"]["AR100"] == 0  # no box of either size has the objects' 8 pixels


def test_networks_that_make_no_proposals() -> None:
    class Exported(nn.Module):
        num_classes, size_divisor, limits = 2, 32, Limits()
        needs_proposals = class_agnostic = is_graph = False
        second_stage = None

        def dense(self, images: Tensor) -> dict[str, Tensor]:
            return {"p5": images}

        def postprocess(
            self, dense: dict[str, Tensor], image_sizes: list[tuple[int, int]], limits: Limits | None = None
        ) -> list[Detections]:
            return [Detections.empty()] * len(dense["p5"])

    with pytest.raises(UserError, match="proposals"):
        ProposalCollector(Exported())


def test_proposals_where_they_cannot_be_written(scene: Path, finder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ["--data", str(scene), "--weights", str(finder), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--save-proposals", str(tmp_path / "file" / "p.json")]) == 2


def test_tiles_find_what_whole_images_do_not_show(finder: Path, tmp_path: Path) -> None:
    """Squares of a cell at full size; the whole image at a quarter of it shows none of them."""
    squares = [[Square("red", 1, 1, 0.9), Square("blue", 20, 13)], [Square("red", 2, 29, 0.8)]]
    data = write_squares(tmp_path / "large", squares, categories={"Blue": 7, "red": 3}, size=(256, 256))
    (tmp_path / "large" / "images" / "p1.png").write_text("damaged")
    plain: dict[str, Any] = {"workers": 0, "output": tmp_path / "a", "json": tmp_path / "a.json"}
    assert evaluate(EvaluateOptions(data=str(data), weights=str(finder), **plain)) == 1
    tiled: dict[str, Any] = {"output": tmp_path / "b", "json": tmp_path / "b.json", "tile": "auto", "overlap": 0.25}
    assert evaluate(EvaluateOptions(data=str(data), weights=str(finder), **tiled)) == 1
    before, after = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert before["AP50"] < 0.1
    assert after["AP50"] > 0.7  # all but the square of the image that cannot be read
    found = json.loads((tmp_path / "b" / "detections.coco.json").read_text())
    truth = [[8, 8, 8, 8], [104, 160, 8, 8]]
    assert sorted(each["bbox"] for each in found if each["score"] > 0.2) == [pytest.approx(box, abs=1) for box in truth]


def test_proposals_are_of_whole_images(scene: Path, finder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tile"):
        run(tmp_path, scene, finder, tile="auto", save_proposals=tmp_path / "proposals.json")
