"""``export.py --format ncnn``: what ncnn computes, with this package and without it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.float_graphs import (
    exported_graph,
    exported_layouts,
    flip,
    require_boxes_and_class_scores,
    require_detection_without,
    require_what_the_weights_find,
)
from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn import load_detector
from yolofpn.cli.export import main as export
from yolofpn.errors import UserError
from yolofpn.runtimes.ncnn import NCNN
from yolofpn.structures import Image

ncnn = pytest.importorskip("ncnn", reason="pip install '.[pnnx]'")
pnnx = pytest.importorskip("pnnx", reason="pip install '.[pnnx]'")
pytestmark = pytest.mark.slow
LAYOUTS = {"decoded": [], "bytes": ["--input-type", "uint8", "--precision", "fp16"]}


@pytest.fixture(scope="module")
def graph(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_graph(exported["weights"], tmp_path_factory, "ncnn", ".ncnn.param")


@pytest.fixture(scope="module")
def layouts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return exported_layouts(weights, tmp_path_factory, "ncnn", ".ncnn.param", LAYOUTS)


def run(path: Path, image: Image, scale: float) -> NDArray[Any]:
    """What a program does that knows nothing but the layout; ``image`` is BGR of the network's size."""
    net = ncnn.Net()
    assert net.load_param(str(path)) == net.load_model(str(path.with_suffix(".bin"))) == 0
    height, width = image.shape[:2]
    entry = ncnn.Mat.from_pixels(np.ascontiguousarray(image), ncnn.Mat.PixelType.PIXEL_BGR2RGB, width, height)
    entry.substract_mean_normalize([], [scale] * 3)
    extractor = net.create_extractor()
    extractor.input("in0", entry)
    code, output = extractor.extract("out0")
    assert code == 0
    return np.array(output)


def test_the_graph_finds_what_the_weights_find(graph: Path, exported: dict[str, Path]) -> None:
    require_what_the_weights_find(graph, exported["weights"], "ncnn")


@pytest.mark.parametrize(("name", "scale"), [("decoded", 1 / 255), ("bytes", 1.0)])
def test_decoded_is_boxes_and_class_scores(layouts: dict[str, Path], name: str, scale: float) -> None:
    output = run(layouts[name], quarters(RED, GREEN, height=64, width=64), scale)
    require_boxes_and_class_scores(output, layouts[name])


def test_it_detects_without_pytorch(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_detection_without(("torch", "pnnx"), graph, "ncnn", tmp_path, capsys)


def copied(graph: Path, folder: Path) -> Path:
    for path in (graph, graph.with_suffix(".bin")):
        shutil.copy(path, folder)
    return folder / graph.name


def edit(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: flip(path.with_suffix(".bin")), "exported"),
        (lambda path: path.with_suffix(".bin").unlink(), "small.ncnn.bin"),
        (edit(lambda text: text.replace("0=96 1=64", "0=64 1=64")), "takes Nx3x64x64"),
        (edit(lambda text: text.replace("-23330=4,3,12,8,", "-23330=4,3,12,9,")), "'p3'"),
        (edit(lambda text: text.partition("yolofpn ")[0]), "detector"),
        (edit(lambda text: text[:200]), "damaged"),
        (edit(lambda _: "7767517\n"), "damaged"),
        (edit(lambda text: text.replace("7767517", "7767518")), "damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "damaged"),
    ],
)
def test_damaged_and_foreign_files_are_refused(
    graph: Path, tmp_path: Path, damage: Callable[[Path], object], word: str
) -> None:
    path = copied(graph, tmp_path)
    load_detector(path)
    damage(path)
    with pytest.raises(UserError) as error:
        load_detector(path)
    assert str(error.value).startswith(f"{path}: ") and word in str(error.value)


def test_a_layer_that_ncnn_does_not_know_is_no_crash(graph: Path, tmp_path: Path) -> None:
    path = copied(graph, tmp_path)
    path.write_text(path.read_text().partition("yolofpn ")[0].replace("Convolution ", "Unknown     "))
    with pytest.raises(UserError, match="cannot run"):
        NCNN.open(lambda _: path, ["p3", "p4", "p5"], (64, 96), "fp32")


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--batch", "1", "x.ncnn.param"], "--batch"),
        (["--layout", "end2end", "x.ncnn.param"], "onnx"),
        (["--opset", "17", "x.ncnn.param"], "--opset"),
        (["--precision", "bf16", "x.ncnn.param"], "fp16"),
        (["x.ncnn"], ".param"),
        (["there.param"], "there.xml"),
    ],
)
def test_bad_requests_are_refused(weights: Path, words: list[str], word: str, in_own_folder: Path, capsys: Any) -> None:
    Path("there.xml").touch()
    outcome = call(export, capsys, "--weights", weights, "--format", "ncnn", *words)
    assert outcome.code == 2 and word in outcome.err and outcome.err.count("\n") == 1
    assert [path.name for path in in_own_folder.iterdir()] == ["there.xml"]


def test_what_pnnx_cannot_convert_is_reported(
    weights: Path, in_own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(pnnx, "EXEC_PATH", shutil.which("false"))
    outcome = call(export, capsys, "--weights", weights, "--format", "ncnn", "x.ncnn.param")
    assert outcome.code == 2 and "pnnx" in outcome.err
    assert list(in_own_folder.iterdir()) == []


def test_the_example_of_the_docs(layouts: dict[str, Path], in_own_folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    program = page.partition("import cv2, ncnn")[2].partition("```")[0].replace("416, 416", "64, 64")
    for name in ("param", "bin"):
        shutil.copy(layouts["decoded"].with_suffix(f".{name}"), f"best.ncnn.{name}")
    cv2.imwrite("dog.jpg", quarters(RED, GREEN, height=64, width=128))
    values: dict[str, Any] = {}
    exec(compile(f"import cv2, ncnn{program}", "export.md", "exec"), values)
    assert values["output"][4:, :2].round(2).tolist() == [[1, 0], [0, 1]]
