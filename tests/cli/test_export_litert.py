"""``export.py --format litert``: what LiteRT computes, with this package and without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.commands import call
from tests.once import made_once
from tests.runtimes.small import NAMES
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn import load_detector
from yolofpn.cli.detect import main as detect
from yolofpn.cli.export import main as export
from yolofpn.errors import UserError
from yolofpn.structures import Image

pytest.importorskip("litert_torch", reason="pip install '.[litert-torch]', in an environment of its own")
interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install '.[litert]'")
pytestmark = pytest.mark.slow
LAYOUTS = {"decoded": [], "bytes": ["--input-type", "uint8"]}


@pytest.fixture(scope="module")
def graph(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``small_detector``; for reading only."""

    def make(folder: Path) -> None:
        words = ["--weights", str(exported["weights"]), "--format", "litert", str(folder / "small.tflite")]
        assert export(words) == 0

    return made_once(tmp_path_factory, "litert", make) / "small.tflite"


@pytest.fixture(scope="module")
def layouts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The detector of colours for other programs; for reading only."""

    def make(folder: Path) -> None:
        for name, words in LAYOUTS.items():
            common = ["--weights", str(weights), "--format", "litert", "--layout", "decoded"]
            assert export([*common, *words, str(folder / f"{name}.tflite")]) == 0

    folder = made_once(tmp_path_factory, "litert-layouts", make)
    return {name: folder / f"{name}.tflite" for name in LAYOUTS}


def spots(seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(20, axis=0).repeat(25, axis=1))


def run(path: Path, image: Image, scale: float) -> NDArray[Any]:
    """What a program does that knows nothing but the layout; ``image`` is BGR of the network's size."""
    interpreter = interpreters.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    entry, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(entry["index"], image[None, :, :, ::-1].astype(np.float32) * np.float32(scale))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(output["index"]))


def test_the_graph_finds_what_the_weights_find(graph: Path, exported: dict[str, Path]) -> None:
    found, own = load_detector(graph), load_detector(exported["weights"], backend="torch", precision="fp32")
    assert (found.backend.name, found.names, found.img_size, found.resize) == ("litert", NAMES, (64, 96), "letterbox")
    images, total = [spots(seed) for seed in range(4)], 0
    for batch_size in (1, 3):
        for one, other in zip(found(images, batch_size=batch_size), own(images, batch_size=batch_size), strict=True):
            assert one.labels.tolist() == other.labels.tolist()
            torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.1)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)
            total += len(one)
    assert total > 10


@pytest.mark.parametrize(("name", "scale"), [("decoded", 1 / 255), ("bytes", 1.0)])
def test_decoded_is_boxes_and_class_scores(layouts: dict[str, Path], name: str, scale: float) -> None:
    image = quarters(RED, GREEN, height=64, width=64)
    output = run(layouts[name], image, scale)
    assert output.shape == (1, 6, 4)  # four cells with one anchor
    np.testing.assert_allclose(output[0, :4, 0], [16, 16, 32, 32], atol=1e-2)  # the top left cell: cx, cy, w, h
    np.testing.assert_allclose(output[0, 4:, 0], [0.9999, 0], atol=1e-3)  # red
    np.testing.assert_allclose(output[0, 4:, 1], [0, 0.9999], atol=1e-3)  # green: row by row
    np.testing.assert_allclose(output[0, 4:, 2:], 0, atol=1e-3)
    assert (layouts[name].parent / "labels.txt").read_text().splitlines() == ["red", "potted plant"]
    boxes = load_detector(layouts[name])(image).boxes
    np.testing.assert_allclose(sorted(boxes.tolist()), [[0, 0, 32, 32], [32, 0, 64, 32]], atol=0.01)


def test_it_detects_without_pytorch(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), spots(0))
    words = ["detect", str(tmp_path / "a.png"), "--weights", str(graph), "--output", "-"]
    program = "import sys\nsys.modules['torch'] = sys.modules['jax'] = None\nfrom yolofpn.__main__ import main\n"
    done = subprocess.run([sys.executable, "-c", f"{program}main({words})"], capture_output=True, text=True)
    assert done.returncode == 0 and "litert fp32" in done.stderr, done.stderr
    expected = call(detect, capsys, *words[1:])
    assert done.stdout == expected.out and len(json.loads(done.stdout)["detections"]) > 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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
