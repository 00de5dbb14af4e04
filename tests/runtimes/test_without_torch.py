"""Exported graphs are detected with where PyTorch is not installed, and what is found is the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.commands import call
from tests.videos import write_video
from yolofpn import load_detector
from yolofpn.cli.detect import main as detect
from yolofpn.errors import UserError
from yolofpn.structures import Image

pytestmark = pytest.mark.slow

MISSING = ("torch", "torchvision", "safetensors", "albumentations", "pycocotools", "matplotlib", "tensorboard")
WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
COMMAND = (
    WITHOUT
    + """
import runpy
sys.argv[0] = "yolofpn"
runpy.run_module("yolofpn", run_name="__main__")
"""
)
PYTHON = (
    WITHOUT
    + """
import json
from yolofpn import load_detector
from yolofpn.errors import UserError
detector = load_detector(sys.argv[1])
images = detector([sys.argv[2], sys.argv[2]], batch_size=2)
frames = [found for _, found in detector.stream(sys.argv[3])]
print(json.dumps([[each.boxes.tolist(), each.scores.tolist(), each.labels.tolist()] for each in images + frames]))
try:
    load_detector("auto")
except UserError as error:
    assert "pip install torch" in str(error)
else:
    raise AssertionError("weights were loaded without PyTorch")
"""
)


def spots(seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(20, axis=0).repeat(25, axis=1))


@pytest.fixture(scope="module")
def folder(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``small.safetensors``, the graphs ``small.onnx`` and ``small.xml``, ``a.png`` and ``a.mp4``."""
    folder = tmp_path_factory.mktemp("graphs")
    for file in exported["weights"].parent.iterdir():
        shutil.copy(file, folder)
    cv2.imwrite(str(folder / "a.png"), spots(0))
    write_video(folder / "a.mp4", [spots(seed) for seed in range(3)])
    return folder


def without_torch(program: str, *words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("graph", ["small.onnx", "small.xml"])
def test_the_command_finds_and_draws_the_same(
    folder: Path, graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [folder / "a.png", folder / "a.mp4", "--weights", folder / graph, "--format", "jsonl,coco"]
    outcome = call(detect, capsys, *words, "--output", tmp_path / "with")
    assert outcome.code == 0, outcome.err
    done = without_torch(COMMAND, "detect", *words, "--output", tmp_path / "without")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("detections.jsonl", "detections.coco.json", "images.json"):
        assert (tmp_path / "without" / name).read_text() == (tmp_path / "with" / name).read_text()
    lines = (tmp_path / "without" / "detections.jsonl").read_text().splitlines()
    assert len(lines) == 4 and min(len(json.loads(line)["detections"]) for line in lines) > 3
    drawn = [next((tmp_path / run).glob("a.png*")).read_bytes() for run in ("with", "without")]
    assert drawn[0] == drawn[1] != (folder / "a.png").read_bytes()
    assert next((tmp_path / "without").glob("*.mp4")).stat().st_size > 1000


@pytest.mark.parametrize("graph", ["small.onnx", "small.xml"])
def test_python_finds_what_the_weights_find_in_pytorch(folder: Path, graph: str) -> None:
    done = without_torch(PYTHON, folder / graph, folder / "a.png", folder / "a.mp4")
    assert done.returncode == 0, done.stderr
    detector = load_detector(folder / "small.safetensors", backend="torch")
    image = str(folder / "a.png")
    expected = [*detector([image, image]), *(found for _, found in detector.stream(str(folder / "a.mp4")))]
    found = json.loads(done.stdout)
    assert len(found) == len(expected) == 5
    for (boxes, scores, labels), own in zip(found, expected, strict=True):
        assert labels == own.labels.tolist() and len(labels) > 3
        np.testing.assert_allclose(boxes, own.boxes, rtol=0, atol=0.01)
        np.testing.assert_allclose(scores, own.scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["detect", "a.png"],
        ["detect", "a.png", "--weights", "small.safetensors"],
        ["evaluate", "--data", "data.yaml"],
        ["demo"],
        ["train", "--data", "data.yaml"],
    ],
    ids=" ".join,
)
def test_what_needs_pytorch_says_so_in_one_line(folder: Path, words: list[str]) -> None:
    done = without_torch(COMMAND, *words, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and "pip install torch" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("graph", ["small.onnx", "small.xml"])
def test_a_graph_takes_no_images_of_varying_size(folder: Path, graph: str) -> None:
    done = without_torch(COMMAND, "detect", "a.png", "--weights", graph, "--resize", "shortest-edge", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    with pytest.raises(UserError):
        load_detector(folder / graph, resize="shortest-edge")
