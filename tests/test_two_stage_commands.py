"""A file of a two-stage detector through every command that takes weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from benchmarking import command as benchmark
from tests.commands import call
from tests.evaluation.test_evaluation_run import write_scene
from yolofpn import load_detector
from yolofpn.cli import convert, detect, evaluate, export, summary
from yolofpn.config import InputConfig, Metadata, ModelConfig, PostprocessConfig
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.settings import Settings
from yolofpn.models.build import build_model
from yolofpn.models.two_stage.faster_rcnn import FasterRCNN
from yolofpn.weights import load_weights, save_weights

pytestmark = pytest.mark.slow

HEAD = """{type: rcnn, channels: 8, anchors: {sizes: [[16], [32], [64]]}, rpn: {post_nms_top_n: [50, 50]},
    roi: {width: 16}}"""
CFG = f"""
model:
  backbone: {{type: strided, width: 8}}
  neck: {{type: add, levels: [3, 4, 5], channels: 8}}
  head: {HEAD}
input: {{size: [64, 96]}}
postprocess: {{score_thresh: 0.3, nms_thresh: 0.5, detections_per_img: 20}}
"""
TORCH = ("--backend", "torch", "--precision", "fp32", "--device", "cpu")


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text(CFG)
    return tmp_path / "two.yaml"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Random weights that see something everywhere."""
    head = {"type": "rcnn", "channels": 8, "anchors": {"sizes": [[16], [32], [64]]}, "roi": {"width": 16}}
    model = ModelConfig.model_validate(
        {
            "backbone": {"type": "strided", "width": 8},
            "neck": {"type": "add", "levels": [3, 4, 5], "channels": 8},
            "head": {**head, "rpn": {"post_nms_top_n": [50, 50]}},
        }
    )
    input, limits = InputConfig(size=(64, 96)), PostprocessConfig(score_thresh=0.3, nms_thresh=0.5)
    torch.manual_seed(0)
    detector = build_model(model, 2, input, limits)
    assert isinstance(detector, FasterRCNN)
    nn.init.normal_(detector.head.box.classes.weight, std=2.0)
    path = tmp_path / "two.safetensors"
    metadata = Metadata(model=model, input=input, postprocess=limits, names=("red", "blue"), category_ids=(3, 7))
    save_weights(path, detector.state_dict(), metadata)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    return path


def found_by(capsys: pytest.CaptureFixture[str], output: Path, *words: object) -> list[list[tuple[str, float]]]:
    """What detect.py wrote: classes and scores of each frame."""
    outcome = call(detect.main, capsys, *words, "--output", output)
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines()]
    return [[(each["name"], each["score"]) for each in line["detections"]] for line in lines]


def test_detect_on_an_image_and_a_video(
    two: Path, image: Path, tiny_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = found_by(capsys, tmp_path / "out", image, tiny_video, "--weights", two, "--batch-size", 4, *TORCH)
    assert len(frames) == 1 + 12 and len(frames[0]) > 3
    assert (tmp_path / "out" / "image.png").is_file() and (tmp_path / "out" / "tiny.mp4").is_file()


def test_other_backends_and_precisions_find_the_same(
    two: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (image, "--weights", two, "--device", "cpu", "--media", "none")
    (expected,) = found_by(capsys, tmp_path / "a", *common, *TORCH)
    for words in (("--backend", "torch", "--precision", "bf16"), ("--backend", "openvino")):
        (found,) = found_by(capsys, tmp_path / words[1], *common, *words)
        assert abs(len(found) - len(expected)) <= 0.1 * len(expected)
        assert found[0][0] == expected[0][0] and abs(found[0][1] - expected[0][1]) <= 0.05
    # The second stage, which PyTorch runs, has the processors between two batches: none runs beside it.
    many = load_detector(two, backend="openvino", workload="many")
    assert (many.backend.name, many.backend.slots) == ("openvino", 1)


def test_half_names_the_flag_that_is_meant(two: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(detect.main, capsys, image, "--weights", two, "--half")
    assert outcome.code == 2 and "--precision fp16" in outcome.err


def test_evaluate(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--weights", two, "--data", write_scene(tmp_path / "data"), "--workers", 0, *TORCH)
    proposals = tmp_path / "proposals.json"
    outcome = call(evaluate.main, capsys, *words, "--output", tmp_path / "out", "--save-proposals", proposals)
    assert outcome.code in (0, 1), outcome.err  # an image of the scene is damaged
    assert "proposals:\n AR100 " in outcome.out and len(json.loads(proposals.read_text())) > 10


@pytest.mark.parametrize("name", ["a.onnx", "a.weights"])
def test_export_refuses_in_words(two: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = "onnx" if name.endswith("onnx") else "darknet"
    outcome = call(export.main, capsys, "--weights", two, "--format", kind, tmp_path / name)
    assert outcome.code == 2 and "only one-stage detectors can be exported" in outcome.err
    assert not (tmp_path / name).exists()


def test_convert_keeps_every_number_and_knows_no_darknet(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(convert.main, capsys, two, tmp_path / "copy.safetensors").code == 0
    before, after = load_weights(two), load_weights(tmp_path / "copy.safetensors")
    assert after.metadata == before.metadata
    ours, theirs = before.detector.state_dict(), after.detector.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    outcome = call(convert.main, capsys, two, tmp_path / "copy.weights")
    assert outcome.code == 2 and outcome.err.startswith("error: Darknet has no two-stage detectors")


def test_summary_counts_both_stages(two: Path, cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from_weights = call(summary.main, capsys, two)
    assert from_weights.code == 0
    *table, note = from_weights.out.splitlines()
    state = load_weights(two).detector.state_dict()
    numbers = sum(tensor.numel() for name, tensor in state.items() if not name.endswith("num_batches_tracked"))
    assert f" {numbers:,} " in table[-1]
    fc6 = next(line.split() for line in table if line.startswith("head.box.body.fc6"))
    assert fc6[1:5] == ["Connected", "16", "16", f"{8 * 49 * 16 + 16:,}"]
    # The layers of a region: 392 x 16, 16 x 16, 16 x 3 and 16 x 12 multiplications and as many additions.
    assert note.endswith(f"{2e-6 * 16 * (392 + 16 + 3 + 12):.3f} GFLOP for 1,000 regions")
    from_yaml = call(summary.main, capsys, cfg, "--num-classes", 2)
    assert from_yaml.out == from_weights.out
    # The bounds of shortest-edge are no size: the next one is taken.
    bounds = call(summary.main, capsys, cfg, "input={size: [60, 90], resize: shortest-edge}", "--num-classes", 2)
    assert bounds.out == from_weights.out


def test_benchmark_on_nothing(
    cfg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STAGE_SECONDS", "NETWORK_SECONDS"):
        monkeypatch.setattr(f"benchmarking.inference.{name}", 0.001)
    monkeypatch.setattr("benchmarking.machine.CHANNELS", 16)
    (tmp_path / "one.yaml").write_text(CFG.replace(HEAD, "{type: yolo, anchors: [[[9, 9]], [[20, 20]], [[40, 40]]]}"))
    words = ("--weights", cfg, tmp_path / "one.yaml", "--empty", "--batch-size", 2, "--frames", 2, "--rounds", 1)
    outcome = call(benchmark.main, capsys, *words, *TORCH, "--json", tmp_path / "report.json")
    assert outcome.code == 0, outcome.err
    rows = json.loads((tmp_path / "report.json").read_text())["inference"]
    assert [row["weights"] for row in rows] == ["two.yaml", "one.yaml"]
    assert rows[0]["proposals"] == 50 and rows[1]["proposals"] is None
    assert "| proposals |" in outcome.out
    refused = call(benchmark.main, capsys, "--empty", "--source", "x.png")
    assert (
        refused.code == 2
        and refused.err == "error: --empty and --source cannot be combined: --empty measures on gray images\n"
    )


def test_the_page_offers_it(two: Path) -> None:
    predictor = ModelStore([str(two)], device="cpu").predictor(Settings(score_thresh=0.2))
    found = predictor.predict([np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)])
    assert len(found[0]) > 3 and predictor.limits.score_thresh == 0.2


def test_a_second_stage_that_gives_no_numbers_is_told(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_weights(two)
    state = loaded.detector.state_dict()
    state["head.box.deltas.bias"][0] = torch.nan
    save_weights(tmp_path / "nan.safetensors", state, loaded.metadata)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 96, 3), 128, np.uint8))
    words = (tmp_path / "a.png", "--weights", tmp_path / "nan.safetensors", "--output", tmp_path / "out", *TORCH)
    outcome = call(detect.main, capsys, *words)
    assert outcome.code == 2
    assert "NaN" in outcome.err and len(outcome.err.splitlines()) <= 2
