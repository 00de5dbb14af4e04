"""Graphs for other programs: ``export.py --layout``, and what reads them without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, NAMES, RED, quarters
from yolofpn import load_detector
from yolofpn.cli.detect import main as detect
from yolofpn.cli.export import main
from yolofpn.errors import UserError
from yolofpn.inference import export_graph
from yolofpn.runtimes.parity import Parity

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow
IMAGE = quarters(RED, GREEN, height=64, width=64)


@pytest.fixture(scope="module")
def graphs(layouts: dict[str, Path]) -> dict[str, Path]:
    return layouts


def run(path: Path, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a program does that knows nothing but the layout; ``image`` is BGR of the network's size."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    batch = image[None, :, :, ::-1].transpose(0, 3, 1, 2)
    batch = batch.astype(np.float32) / 255 if entry.type == "tensor(float)" else np.ascontiguousarray(batch)
    (output,) = session.run(None, {entry.name: batch})
    return np.asarray(output)


@pytest.mark.parametrize("name", ["decoded", "bytes"])
def test_decoded_is_boxes_and_class_scores(graphs: dict[str, Path], name: str) -> None:
    output = run(graphs[name], IMAGE)
    assert output.shape == (1, 4 + len(NAMES), 4)  # four cells with one anchor
    np.testing.assert_allclose(output[0, :4, 0], [16, 16, 32, 32], atol=1e-3)  # the top left cell: cx, cy, w, h
    np.testing.assert_allclose(output[0, 4:, 0], [0.9999, 0], atol=1e-3)  # red
    np.testing.assert_allclose(output[0, 4:, 1], [0, 0.9999], atol=1e-3)  # green: row by row
    np.testing.assert_allclose(output[0, 4:, 2:], 0, atol=1e-3)


def test_end2end_is_detections(graphs: dict[str, Path]) -> None:
    output = run(graphs["end2end"], IMAGE)
    assert output.shape[0] == 1 and output.shape[2] == 6
    rows = output[0, :2][output[0, :2, 5].argsort()]
    np.testing.assert_allclose(rows, [[0, 0, 32, 32, 0.9999, 0], [32, 0, 64, 32, 0.9999, 1]], atol=1e-3)
    assert (output[0, 2:] == 0).all()
    nothing = run(graphs["end2end"], np.zeros_like(IMAGE))
    assert (nothing == 0).all()


def test_labels_lie_beside_them(graphs: dict[str, Path]) -> None:
    assert (graphs["decoded"].parent / "labels.txt").read_text().splitlines() == list(NAMES)


@pytest.mark.parametrize("name", ["decoded", "end2end", "bytes"])
def test_the_command_reads_them_too(
    graphs: dict[str, Path], weights: Path, name: str, in_own_folder: Path, capsys: Any
) -> None:
    cv2.imwrite("a.png", quarters(RED, GREEN, RED, height=96, width=96))
    found = []
    for chosen in (weights, graphs[name]):
        outcome = call(detect, capsys, "a.png", "--weights", chosen, "--output", "-", "--device", "cpu")
        assert outcome.code == 0, outcome.err
        found.append(json.loads(outcome.out)["detections"])
    assert len(found[0]) == len(found[1]) == 3
    order = [sorted(each, key=lambda detection: detection["box"]) for each in found]
    for one, other in zip(*order, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
    one = load_detector(graphs[name], score_thresh=0.99999)
    assert len(one(quarters(RED, GREEN))) == 0


def test_files_are_what_they_say(graphs: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(graphs["bytes"])
    assert model.opset_import[0].version == 18 and model.ir_version == 8
    info = json.loads(model.metadata_props[0].value)
    assert (info["layout"], info["uint8"], info["precision"]) == ("decoded", True, "fp16")
    for changes in ({"layout": "end2end"}, {"layout": "raw"}, {"uint8": False}):
        onnx.helper.set_model_props(model, {"yolofpn": json.dumps({**info, **changes})})
        onnx.save(model, tmp_path / "changed.onnx")
        with pytest.raises(UserError, match="export it again"):
            load_detector(tmp_path / "changed.onnx")


def test_a_layout_that_finds_something_else_is_not_left_behind(
    weights: Path, graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("yolofpn.runtimes.onnx.ONNX.convert_form", lambda *_: onnx.load(graphs["decoded"]))
    monkeypatch.setattr(export_graph, "compare_detections", lambda *_: Parity(100, 0.9, 4.0, 0.09, 0.1))
    words = ["--weights", weights, "--format", "onnx", "--layout", "decoded", tmp_path / "x.onnx"]
    outcome = call(main, capsys, *words)
    assert outcome.code == 2 and "not written" in outcome.err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(export_graph, "compare_detections", lambda *_: Parity(100, 1.0, 0.0, 0.0, 0.0))
    (tmp_path / "labels.txt").write_text("of another model\n")
    outcome = call(main, capsys, *words)
    assert outcome.code == 2 and "labels.txt" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["labels.txt"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--format", "openvino", "--layout", "decoded", "x.xml"], "--layout"),
        (["--format", "darknet", "--opset", "17", "x.weights"], "--opset"),
        (["--format", "onnx", "--input-type", "float", "x.onnx"], "--input-type"),
        (["--format", "onnx", "--layout", "end2end", "--batch", "2", "x.onnx"], "--batch"),
        (["--format", "onnx", "--opset", "9", "x.onnx"], "--opset"),
    ],
)
def test_bad_requests_are_refused(weights: Path, words: list[str], word: str, in_own_folder: Path, capsys: Any) -> None:
    outcome = call(main, capsys, "--weights", weights, *words)
    assert outcome.code == 2 and word in outcome.err and outcome.err.count("\n") == 1
    assert list(in_own_folder.iterdir()) == []
