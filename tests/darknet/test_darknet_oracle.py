"""Detections of Darknet's own program, through ``detect.py``, exports and conversions."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.commands import call
from tests.darknet.oracle_cases import CFGS, EXPECTED, NMS_THRESH, SCORE_THRESH, Expected, pattern, write_case
from yolofpn.cli import convert, detect, export, summary
from yolofpn.darknet.cfg import read_cfg
from yolofpn.darknet.network import load_darknet_network
from yolofpn.inference.load_detector import load_detector

pytestmark = [pytest.mark.usefixtures("in_own_folder"), pytest.mark.slow]


def write_image(path: Path, height: int, width: int, channels: int = 3) -> Path:
    cv2.imwrite(str(path), np.ascontiguousarray(pattern(height, width, channels)[:, :, ::-1]))
    return path


def check(found: list[tuple[int, float, list[float]]], expected: Expected) -> None:
    assert len(found) == expected.count
    assert sum(score for _, score, _ in found) == pytest.approx(expected.scores, abs=0.01)
    assert sum(sum(box) for *_, box in found) == pytest.approx(expected.corners, rel=1e-4)
    for label, score, box in expected.best:
        assert any(
            label == other and abs(score - value) < 2e-4 and np.abs(np.subtract(box, corners)).max() < 0.02
            for other, value, corners in found
        ), (label, score, box)


def detections(text: str) -> list[tuple[int, float, list[float]]]:
    return [(each["label"], each["score"], each["box"]) for each in json.loads(text)["detections"]]


def detect_arguments(image: Path, weights: Path, *more: object) -> list[object]:
    thresholds = ["--score-thresh", SCORE_THRESH, "--nms-thresh", NMS_THRESH]
    return [image, "--weights", weights, *thresholds, "--media", "none", "--output", "-", "--backend", "torch", *more]


@pytest.mark.parametrize("name", CFGS)
def test_detect_finds_what_darknet_finds(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = write_case(name, tmp_path)
    image = write_image(tmp_path / "image.png", *network.input_size, network.cfg.net.channels)
    outcome = call(detect.main, capsys, *detect_arguments(image, tmp_path / "x.weights"))
    assert outcome.code == 0
    check(detections(outcome.out), EXPECTED[name])
    # The same network, but from one file that holds its cfg.
    assert call(convert.main, capsys, tmp_path / "x.weights", tmp_path / "y.safetensors").code == 0
    outcome = call(detect.main, capsys, *detect_arguments(image, tmp_path / "y.safetensors"))
    check(detections(outcome.out), EXPECTED[name])


@pytest.mark.parametrize("name", ["plain", "diounms"])
def test_distances_are_measured_in_parts_of_the_image(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_case(name, tmp_path)
    image = write_image(tmp_path / "image.png", 50, 100)
    outcome = call(detect.main, capsys, *detect_arguments(image, tmp_path / "x.weights", "--resize", "letterbox"))
    check(detections(outcome.out), EXPECTED[f"{name} letterboxed"])


@pytest.mark.parametrize("name", ["new_coords", "gaussian", "region that does not divide", "sections", "gray"])
def test_graphs_find_the_same(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    network = write_case(name, tmp_path)
    graph = tmp_path / "x.xml"
    arguments = ["--weights", tmp_path / "x.weights", "--format", "openvino", "--precision", "fp32", graph]
    assert call(export.main, capsys, *arguments).code == 0
    predictor = load_detector(graph, score_thresh=SCORE_THRESH, nms_thresh=NMS_THRESH)
    image = pattern(*network.input_size, network.cfg.net.channels)
    found = predictor(image, rgb=True)
    check(list(zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)), EXPECTED[name])


@pytest.mark.parametrize("name", CFGS)
def test_weights_come_back_byte_for_byte(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(name, tmp_path)
    assert call(convert.main, capsys, tmp_path / "x.weights", tmp_path / "y.safetensors").code == 0
    assert call(convert.main, capsys, tmp_path / "y.safetensors", tmp_path / "z.weights").code == 0
    assert (tmp_path / "x.weights").read_bytes() == (tmp_path / "z.weights").read_bytes()


def test_a_network_takes_its_own_size_or_multiples_of_its_stride(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_case("region that does not divide", tmp_path)
    image = write_image(tmp_path / "image.png", 70, 50)
    weights = tmp_path / "x.weights"
    assert "9x6x14" in call(summary.main, capsys, tmp_path / "x.cfg").out
    assert call(detect.main, capsys, *detect_arguments(image, weights, "--img-size", "64x48")).code == 0
    outcome = call(detect.main, capsys, *detect_arguments(image, weights, "--img-size", "71x50"))
    assert outcome.code == 2 and "multiple" in outcome.err
    outcome = call(detect.main, capsys, *detect_arguments(image, weights, "--resize", "shortest-edge"))
    assert outcome.code == 2 and "letterbox" in outcome.err


def test_a_cell_is_the_input_over_the_map(tmp_path: Path) -> None:
    write_case("region that does not divide", tmp_path)
    network, _ = load_darknet_network(read_cfg(tmp_path / "x.cfg"), tmp_path / "x.weights")
    (spec,) = network.specs.values()
    assert not spec.divides and spec.stride == 8 and network.own_size == (70, 50)
    assert spec.cell_size((9, 6), (70, 50)) == (50 / 6, 70 / 9)
    with torch.inference_mode():
        (raw,) = network.dense(torch.zeros(1, 3, 70, 50, dtype=torch.uint8)).values()
    assert raw.shape == (1, 14, 9, 6)


def test_unknown_keys_are_ignored_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case("region that does not divide", tmp_path)
    image = write_image(tmp_path / "image.png", 70, 50)
    outcome = call(detect.main, capsys, image, "--weights", tmp_path / "x.weights", "--media", "none")
    assert outcome.code == 0 and "mosiac" in outcome.out + outcome.err
    assert "mosiac" in call(summary.main, capsys, tmp_path / "x.cfg").out
