"""``export.py --format litert``: what LiteRT computes, with this package and without it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from yolofpn.structures import Image

pytest.importorskip("litert_torch", reason="pip install '.[litert-torch]', in an environment of its own")
interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install '.[litert]'")
pytestmark = pytest.mark.slow
LAYOUTS = {"decoded": [], "bytes": ["--input-type", "uint8"]}


@pytest.fixture(scope="module")
def graph(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_graph(exported["weights"], tmp_path_factory, "litert", ".tflite")


@pytest.fixture(scope="module")
def layouts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return exported_layouts(weights, tmp_path_factory, "litert", ".tflite", LAYOUTS)


def run(path: Path, image: Image, scale: float) -> NDArray[Any]:
    """What a program does that knows nothing but the layout; ``image`` is BGR of the network's size."""
    interpreter = interpreters.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    entry, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(entry["index"], image[None, :, :, ::-1].astype(np.float32) * np.float32(scale))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(output["index"]))


def test_the_graph_finds_what_the_weights_find(graph: Path, exported: dict[str, Path]) -> None:
    require_what_the_weights_find(graph, exported["weights"], "litert")


@pytest.mark.parametrize(("name", "scale"), [("decoded", 1 / 255), ("bytes", 1.0)])
def test_decoded_is_boxes_and_class_scores(layouts: dict[str, Path], name: str, scale: float) -> None:
    output = run(layouts[name], quarters(RED, GREEN, height=64, width=64), scale)
    assert output.shape[0] == 1
    require_boxes_and_class_scores(output[0], layouts[name])


def test_it_detects_without_pytorch(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_detection_without(("torch", "jax"), graph, "litert", tmp_path, capsys)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:64])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"no graph")])
def test_damaged_files_are_refused(graph: Path, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = Path(shutil.copy(graph, tmp_path))
    damage(path)
    with pytest.raises(UserError, match="damaged"):
        load_detector(path)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--batch", "2", "x.tflite"], "--batch"),
        (["--layout", "end2end", "x.tflite"], "onnx"),
        (["--precision", "fp16", "x.tflite"], "fp16"),
    ],
)
def test_bad_requests_are_refused(weights: Path, words: list[str], word: str, in_own_folder: Path, capsys: Any) -> None:
    outcome = call(export, capsys, "--weights", weights, "--format", "litert", *words)
    assert outcome.code == 2 and word in outcome.err and outcome.err.count("\n") == 1
    assert list(in_own_folder.iterdir()) == []
