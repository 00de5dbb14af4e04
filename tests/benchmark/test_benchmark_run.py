"""benchmark.py as a whole; how fast anything is, no test asks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarking.candidates import OurCandidate
from benchmarking.command import build_parser, main
from benchmarking.opencv_baseline import OpenCVBaseline
from benchmarking.stages import DECODE, DRAW, ENCODE, JSON, Stages
from benchmarking.throughput import network_fps
from tests.commands import Outcome, call
from tests.data.band_images import write_band_images, write_band_weights
from tests.evaluation.squares import write_darknet_finder, write_squares
from tests.evaluation.test_evaluation_run import IMAGES, write_scene
from yolofpn.cli.evaluate import main as evaluate

pytestmark = pytest.mark.slow

TORCH = ("--backend", "torch", "--precision", "fp32", "--device", "cpu", "--rounds", "1")


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("inference.STAGE_SECONDS", "inference.NETWORK_SECONDS", "hot_path.SECONDS"):
        monkeypatch.setattr(f"benchmarking.{name}", 0.001)
    monkeypatch.setattr("benchmarking.machine.CHANNELS", 16)


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return write_darknet_finder(tmp_path)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "data")


def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: object) -> tuple[Outcome, dict[str, Any]]:
    """What the command printed, and its JSON if it wrote one."""
    path = tmp_path / "report.json"
    outcome = call(main, capsys, *TORCH, "--json", path, *words)
    return outcome, json.loads(path.read_text()) if path.is_file() else {}


def test_every_figure_is_in_the_report(
    finder: Path, scene: Path, tiny_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, report = run(
        capsys, tmp_path, "--weights", finder, "--source", scene.parent / "images", tiny_video, "--batch-size", 1, 2
    )
    assert outcome.code == 0, outcome.err
    assert report.keys() == {"format_version", "time", "machine", "versions", "inference"}
    assert report["machine"].keys() >= {"cpu", "cores", "flags", "memory_gb", "gpu", "load"}
    assert report["versions"]["torch"] and report["versions"]["opencv-python"]
    rows = report["inference"]
    assert [(row["backend"], row["batch_size"]) for row in rows] == [
        ("torch", 1), ("torch", 2), ("opencv", 1), ("opencv", 2)
    ]  # fmt: skip
    for row in rows:
        assert list(row["stages"]) == [DECODE, "pre-process", "network", "post-process", DRAW, ENCODE, JSON]
        for stage in row["stages"].values():
            assert 0 < stage["best_ms"] <= stage["p50_ms"] <= stage["p95_ms"] <= stage["p99_ms"] and stage["count"] > 0
        assert row["network_fps"] == pytest.approx(1000 / row["network_ms"])
        assert row["best_network_fps"] >= row["network_fps"]
        assert (row["weights"], row["img_size"], row["ap"]) == ("finder.weights", [64, 64], {})
        assert row["peak_memory"]["process_mb"] > 100
    for row in rows[:2]:
        assert row["gflop"] == pytest.approx(2 * 3 * 7 * 64 * 64 / 1e9)
        assert row["gflop_per_second"] == pytest.approx(row["gflop"] * row["best_network_fps"])
        assert row["share_of_network"] == pytest.approx(row["end_to_end_fps"] / row["network_fps"])
        assert row["share_of_peak"] > 0
    for row in rows[2:]:
        assert row["end_to_end_fps"] is None and row["gflop"] is None


def test_ours_share_the_processors_as_in_detection_and_peers_have_them_all(
    finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[type, set[int]] = {}

    class NotedStages(Stages):
        def turn(self, seconds: float, at_least: int = 2) -> list[float]:
            if not math.isclose(seconds, 0):  # not to warm up
                threads.setdefault(type(self._contender), set()).add(cv2.getNumThreads())
            return super().turn(seconds, at_least)

    monkeypatch.setattr("benchmarking.inference.Stages", NotedStages)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        outcome, _ = run(capsys, tmp_path, "--weights", finder, "--source", scene.parent / "images")
        assert outcome.code == 0, outcome.err
        assert threads == {OurCandidate: {1}, OpenCVBaseline: {2}}
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_tables_are_printed_and_printed_again(
    finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, _ = run(capsys, tmp_path, "--weights", finder, "--source", scene.parent / "images", "--no-baselines")
    again = call(main, capsys, "--tables", tmp_path / "report.json")
    assert again.code == 0
    assert "| finder.weights | torch   | fp32 " in again.out and "opencv  |" not in again.out
    assert outcome.out.endswith("\n" + again.out)


@pytest.mark.usefixtures("drawn_plots")
def test_ap_is_that_of_evaluate_and_is_plotted(
    finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolofpn.evaluation.evaluation_run.write_plots", lambda *_: None)
    numbers = tmp_path / "numbers.json"
    words = ["--data", scene, "--weights", finder, "--backend", "torch", "--precision", "fp32", "--device", "cpu"]
    assert call(evaluate, capsys, *words, "--output", tmp_path / "out", "--json", numbers).code == 0
    images, plot = scene.parent / "images", tmp_path / "new" / "plot.png"
    random = finder.with_suffix(".cfg")
    outcome, report = run(
        capsys, tmp_path, "--weights", finder, random, "--source", images, "--data", scene, "--plot", plot
    )
    assert outcome.code == 0, outcome.err
    expected = json.loads(numbers.read_text())
    assert 0 < expected["AP"] < 1
    assert report["inference"][0]["ap"] == {name: pytest.approx(expected[name]) for name in ("AP", "AP50")}
    assert [bool(row["ap"]) for row in report["inference"]] == [True, False, False, False]  # random weights, OpenCV
    image = np.asarray(cv2.imread(str(plot)))
    assert min(image.shape[:2]) > 500 and image.std() > 5


def test_weights_without_ap_do_not_lose_the_figures_of_the_others(
    finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_squares(tmp_path / "data", IMAGES, categories={"Blue": 7, "red": 3, "other": 9})
    stranger = tmp_path / "stranger.weights"
    for suffix in (".weights", ".cfg"):
        stranger.with_suffix(suffix).write_bytes(finder.with_suffix(suffix).read_bytes())
    stranger.with_suffix(".names").write_text("cup\nfork\n")
    words = ["--weights", stranger, finder, "--source", data.parent / "images", "--no-baselines", "--data", data]
    outcome, report = run(capsys, tmp_path, *words)
    assert outcome.code == 1 and "stranger.weights torch fp32: no AP: no class in common" in outcome.err
    assert [bool(row["ap"]) for row in report["inference"]] == [False, True]
    assert all(row["network_fps"] > 0 for row in report["inference"])


def test_data_that_are_missing_are_told_before_anything_is_measured(
    finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = call(main, capsys, "--weights", finder, "--data", tmp_path / "nothing.yaml")
    assert outcome.code == 2 and "nothing.yaml" in outcome.err and "backend:" not in outcome.out


def test_data_root_can_be_given(finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = tmp_path / "elsewhere.yaml"
    scene.rename(moved)
    words = ["--weights", finder, "--source", scene.parent / "images", "--no-baselines", "--data", moved]
    outcome, report = run(capsys, tmp_path, *words, f"data.root={scene.parent}")
    assert outcome.code == 0, outcome.err
    assert report["inference"][0]["ap"]["AP"] > 0


def test_hot_path(finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome, report = run(
        capsys, tmp_path, "--hot-path", "--weights", finder, "--source", scene.parent / "images", "--rounds", 2
    )
    assert outcome.code == 0, outcome.err
    whats = [row["what"] for row in report["hot_path"]]
    assert len(whats) == len(set(whats)) == 9
    for part in (
        "RGB tensor, 64x64",
        "draw",
        "JSON",
        "decode and NMS, score > 0.25",
        "score > 0.001",
        "NMSBoxesBatched",
    ):
        assert any(part in what for what in whats)
    assert "| hot path " in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "tensorrt"], "choose from 'auto', 'torch', 'openvino', 'onnx', 'ncnn', 'litert'"),
        (["--img-size", "0"], "is not a size"),
        (["--rounds", "0"], "not a positive integer"),
        (["--baton-size", "3"], "did you mean --batch-size?"),
        (["--plot", "p.png"], "--data"),
        (["--source", "none.mp4"], "no such file or folder"),
        (["--weights", "none.weights"], "no such weights"),
        (["--img-size", "65"], "try 64x64"),
        (["--tables", "none.json"], "give a file that --json wrote"),
        (["--train", "--weights", "x.yaml"], "x.yaml"),
    ],
)
def test_wrong_words_are_answered_in_one_or_two_lines(
    words: list[str], said: str, finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = {"--weights": finder, "--source": scene.parent / "images", "--backend": "torch"}
    missing = [word for flag, value in defaults.items() if flag not in words for word in (flag, value)]
    outcome = call(main, capsys, *words, *missing)
    assert outcome.code == 2
    assert said in outcome.err and len(outcome.err.strip().splitlines()) <= 2


def test_lists_of_everything() -> None:
    words = ["--weights", "a", "b", "--img-size", "416", "384x640", "--batch-size", "1", "8", "--imgsz", "608"]
    arguments = build_parser().parse_args(words)
    assert arguments.img_size == [(416, 416), (384, 640), (608, 608)]
    assert (arguments.weights, arguments.batch_size) == (["a", "b"], [1, 8])
    assert build_parser().parse_args([]).img_size == []  # and nothing is left behind from the call before


def test_tables_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("{}", "nonsense", '{"machine": 3}'):
        (tmp_path / "other.json").write_text(text)
        outcome = call(main, capsys, "--tables", tmp_path / "other.json")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1) and "is not a report" in outcome.err


def test_a_missing_extra_is_named_and_the_others_run(
    finder: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)  # as if it were not installed
    words = ["--weights", finder, "--source", scene.parent / "images", "--no-baselines"]
    outcome, report = run(capsys, tmp_path, *words, "--backend", "onnx")
    assert outcome.code == 1  # torch, of TORCH, has run
    assert [row["backend"] for row in report["inference"]] == ["torch"]
    assert "skipped" in outcome.err and "pip install '.[runtime]'" in outcome.err
    alone = call(main, capsys, *words, "--backend", "onnx", "--rounds", 1)
    assert alone.code == 2 and "error: onnxruntime is not installed: pip install '.[runtime]'" in alone.err


def test_weights_for_bands_are_measured_on_images_of_bands_alone(
    finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, data = write_band_weights(tmp_path), write_band_images(tmp_path / "bands")
    images = data.parent / "images"
    outcome, report = run(capsys, tmp_path, "--weights", weights, "--source", images, "--data", data, "--frames", 3)
    assert outcome.code == 0, outcome.err
    (row,) = report["inference"]
    assert row["stages"][ENCODE]["count"] > 0 and row["ap"]["AP"] >= 0
    outcome, report = run(capsys, tmp_path, "--weights", weights, "--source", images, "--hot-path")
    assert outcome.code == 0 and report["hot_path"]
    for words in (["--weights", weights], ["--weights", weights, "--empty"]):
        outcome, _ = run(capsys, tmp_path, *words)
        assert outcome.code == 2 and "--source" in outcome.err
    outcome, report = run(capsys, tmp_path, "--weights", weights, finder, "--source", images, "--frames", 3)
    assert outcome.code == 1 and "runs of their own" in outcome.err
    assert len(report["inference"]) == 1


def test_the_network_for_bands_is_timed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolofpn.inference.torch_network.is_installed", lambda _: False)  # no graph is waited for
    images = write_band_images(tmp_path / "bands").parent / "images"
    assert network_fps(str(write_band_weights(tmp_path)), str(images), seconds=0.01) > 0
