"""Exported graphs are detected with where PyTorch is not installed, and what is found is the same."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.commands import call
from tests.videos import write_video
from yolofpn import load_detector, shipped
from yolofpn.cli.detect import main as detect
from yolofpn.errors import UserError
from yolofpn.inference import load_detector as load
from yolofpn.inference.predictor_options import PredictorOptions
from yolofpn.shipped import initial_weights
from yolofpn.sinks import SINKS
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
# Runs commands, one after the other, in one process; prints the code, the output and the errors of each.
COMMANDS = (
    WITHOUT
    + """
import contextlib, io, json
from yolofpn.__main__ import main
answers = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
)
PYTHON = (
    WITHOUT
    + """
import json
from yolofpn import load_detector
from yolofpn.errors import UserError
image, video, weights, *graphs = sys.argv[1:]
for graph in graphs:
    detector = load_detector(graph)
    images = detector([image, image], batch_size=2)
    frames = [found for _, found in detector.stream(video)]
    print(json.dumps([[each.boxes.tolist(), each.scores.tolist(), each.labels.tolist()] for each in images + frames]))
try:
    load_detector(weights)
except UserError as error:
    assert "train" in str(error)
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


def test_the_command_finds_and_draws_the_same(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graphs, commands = ("small.onnx", "small.xml"), []
    for graph in graphs:
        words = [str(folder / "a.png"), str(folder / "a.mp4"), "--weights", str(folder / graph)]
        words += ["--format", "jsonl,coco", "--output"]
        outcome = call(detect, capsys, *words, tmp_path / "with" / graph)
        assert outcome.code == 0, outcome.err
        commands.append(["detect", *words, str(tmp_path / "without" / graph)])
    done = without_torch(COMMANDS, json.dumps(commands))
    assert (done.returncode, done.stderr) == (0, "")
    assert [(code, error) for code, _, error in json.loads(done.stdout)] == [(0, "")] * 2
    for graph in graphs:
        runs = [tmp_path / run / graph for run in ("with", "without")]
        for name in ("detections.jsonl", "detections.coco.json", "images.json"):
            assert (runs[0] / name).read_text() == (runs[1] / name).read_text()
        lines = (runs[1] / "detections.jsonl").read_text().splitlines()
        assert len(lines) == 4 and min(len(json.loads(line)["detections"]) for line in lines) > 3
        drawn = [next(run.glob("a.png*")).read_bytes() for run in runs]
        assert drawn[0] == drawn[1] != (folder / "a.png").read_bytes()
        assert next(runs[1].glob("*.mp4")).stat().st_size > 1000


def test_python_finds_what_the_weights_find_in_pytorch(folder: Path) -> None:
    files = ("a.png", "a.mp4", "small.safetensors", "small.onnx", "small.xml")
    done = without_torch(PYTHON, *(folder / name for name in files))
    assert done.returncode == 0, done.stderr
    detector = load_detector(folder / "small.safetensors", backend="torch")
    image = str(folder / "a.png")
    expected = [*detector([image, image]), *(found for _, found in detector.stream(str(folder / "a.mp4")))]
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and len(expected) == 5
    for line in lines:
        for (boxes, scores, labels), own in zip(json.loads(line), expected, strict=True):
            assert labels == own.labels.tolist() and len(labels) > 3
            np.testing.assert_allclose(boxes, own.boxes, rtol=0, atol=0.01)
            np.testing.assert_allclose(scores, own.scores, rtol=0, atol=1e-4)


def test_what_cannot_be_says_so_in_one_line(folder: Path) -> None:
    """Neither what needs PyTorch, nor images of varying size in a graph."""
    needing = (
        "detect a.png --weights small.safetensors",
        "evaluate --data data.yaml",
        "train --data data.yaml",
    )
    graphs = ("small.onnx", "small.xml")
    varying = [f"detect a.png --weights {graph} --resize shortest-edge" for graph in graphs]
    done = without_torch(COMMANDS, json.dumps([line.split() for line in (*needing, *varying)]), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    answers = json.loads(done.stdout)
    assert len(answers) == 5
    for number, (code, printed, error) in enumerate(answers):
        assert (code, printed) == (2, "")
        assert error.startswith("error: ") and error.count("\n") == 1
        assert ("[train]" in error) == (number < len(needing))
    for graph in graphs:  # nor with it
        with pytest.raises(UserError):
            load_detector(folder / graph, resize="shortest-edge")


SHIPPED = (
    WITHOUT
    + """
from pathlib import Path
from yolofpn import shipped
shipped._WEIGHTS_FOLDERS = (Path(sys.argv.pop(1)),)
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from yolofpn.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""
)


@pytest.fixture(scope="module")
def weights_folder(folder: Path) -> Path:
    """What ``tools/export_default_graph.sh`` leaves: the default weights, their graph, and the sha256 of both."""
    shipped = folder / "shipped"
    shipped.mkdir()
    shutil.copy(folder / "small.safetensors", shipped / "small.safetensors")
    shutil.copy(folder / "small.onnx", shipped / "small.onnx")
    names = ("small.safetensors", "small.onnx")
    lines = [f"{hashlib.sha256((shipped / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (shipped / "SHA256SUMS").write_text("".join(lines))
    return shipped


@pytest.mark.parametrize("missing", ["matplotlib", "onnxruntime"], ids=["onnxruntime", "openvino"])
def test_the_default_weights_are_a_graph_in_every_format(
    folder: Path, weights_folder: Path, missing: str, tmp_path: Path
) -> None:
    formats = ",".join(sink.key for sink in SINKS)
    words = ["detect", folder / "a.png", folder / "a.mp4", "--format", formats, "--output", tmp_path / "out"]
    done = without_torch(SHIPPED, weights_folder, missing, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"weights: {weights_folder / 'small.onnx'} (the default weights as a graph, as PyTorch"
    )
    found = [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
    own = load_detector(folder / "small.safetensors", backend="torch")(str(folder / "a.png"))
    np.testing.assert_allclose([each["box"] for each in found[0]["detections"]], own.boxes, rtol=0, atol=0.02)
    assert len(list((tmp_path / "out").rglob("*"))) > len(SINKS)


def test_a_damaged_graph_of_the_default_weights_is_refused(folder: Path, weights_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_folder, tmp_path / "damaged")
    with (tmp_path / "damaged" / "small.onnx").open("ab") as file:
        file.write(b"0")
    done = without_torch(SHIPPED, tmp_path / "damaged", "matplotlib", "detect", folder / "a.png", "--output", "-")
    assert (done.returncode, done.stdout) == (2, "") and "sha256" in done.stderr


def test_without_any_runtime_the_extra_is_named(folder: Path, weights_folder: Path) -> None:
    words = ["detect", folder / "a.png", "--output", "-"]
    done = without_torch(SHIPPED, weights_folder, "onnxruntime,openvino", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "[runtime]" in done.stderr and done.stderr.count("\n") == 1


def test_the_demo_offers_the_graph(folder: Path, weights_folder: Path) -> None:
    program = """
from yolofpn.demo import serve
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings
store = ModelStore([])
assert [choice.title for choice in store.choices()] == ["small (default)"]
assert len(store.predictor(Settings())(sys.argv[1])) > 3
"""
    head = SHIPPED.partition("from yolofpn.__main__")[0]
    done = without_torch(head + program, weights_folder, "matplotlib", folder / "a.png")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "is_graph"),
    [
        ({}, True),
        ({"device": "cpu", "score_thresh": 0.1}, True),
        ({"backend": "onnx"}, True),
        ({"backend": "torch"}, False),
        ({"img_size": 96}, False),
        ({"precision": "bf16"}, False),
        ({"resize": "shortest-edge"}, False),
    ],
    ids=str,
)
def test_with_pytorch_the_graph_is_taken_where_it_gives_the_same(
    weights_folder: Path, settings: dict[str, Any], is_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "_WEIGHTS_FOLDERS", (weights_folder,))
    monkeypatch.setattr(load, "may_have_gpu", lambda: False)
    suffix = ".onnx" if is_graph else ".safetensors"
    assert load.default_file(PredictorOptions(**settings)).suffix == suffix
    assert load.default_file(None).suffix == ".safetensors"
    monkeypatch.setattr(load, "may_have_gpu", lambda: True)
    assert (load.default_file(PredictorOptions(**settings)).suffix == ".onnx") == (
        is_graph and settings.get("device") == "cpu"
    )
    assert initial_weights() == []


def test_openvino_runs_onnx_files(folder: Path) -> None:
    image = str(folder / "a.png")
    one, other = (load_detector(folder / "small.onnx", backend=name) for name in ("onnx", "openvino"))
    assert (one.backend.name, other.backend.name, other.backend.precision) == ("onnx", "openvino", "fp32")
    np.testing.assert_allclose(one(image).boxes, other(image).boxes, rtol=0, atol=0.01)
    assert load_detector(folder / "small.onnx").backend.name == "onnx"  # starts first
    assert load_detector(folder / "small.onnx", workload="many").backend.name == "openvino"  # the fastest


def test_an_image_takes_no_library_that_only_others_need(folder: Path, tmp_path: Path) -> None:
    program = """
from yolofpn.inference.detection_run import DetectOptions, detect
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor import Predictor
loaded = load_for_inference(sys.argv[1])
Predictor(loaded.detector, loaded.metadata)
assert "cv2" not in sys.modules, "the graph is opened before OpenCV takes memory"
detect(DetectOptions(sources=(sys.argv[2],), weights=sys.argv[1], output=sys.argv[3]))
assert "cv2" in sys.modules
assert not {"av", "ssl", "urllib.request", "ruamel.yaml", "tqdm", "yolofpn.darknet.cfg"} & set(sys.modules)
"""
    words = [str(folder / "small.onnx"), str(folder / "a.png"), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", WITHOUT + program, *words], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert (tmp_path / "out" / "a.png").is_file()
