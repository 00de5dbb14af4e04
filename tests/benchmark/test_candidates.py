from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarking.candidates import NETWORK, POST, PRE, ClockedBackend, OurCandidate, gflop
from benchmarking.opencv_baseline import OpenCVBaseline, opencv_baselines
from benchmarking.opening import Combination, combinations, open_candidates
from tests.tiny_detector import GREEN, RED, quarters, write_tiny
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import load_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.runtimes.backend import Batch, Wait
from yolofpn.types import RawMaps

pytestmark = pytest.mark.slow

IMAGES = [quarters(RED, GREEN), quarters(GREEN, GREEN, RED, height=96, width=96)]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "weights")


def open_tiny(weights: Path) -> Predictor:
    return load_detector(weights, backend="torch", precision="fp32", device="cpu")


def test_each_with_each() -> None:
    wanted = list(combinations(["a", "b"], ["torch", "onnx"], [], [(32, 64)], [1, 8]))
    assert len(wanted) == len(set(wanted)) == 8
    assert wanted[0] == Combination("a", "torch", "auto", (32, 64), 1, "many")
    assert wanted[-1] == Combination("b", "onnx", "auto", (32, 64), 8, "many")
    assert list(combinations([], [], [], [], [])) == [Combination("auto")]


def test_compiled_ones_stand_beside_torch_alone() -> None:
    wanted = combinations(["a"], ["torch", "onnx"], ["fp32"], [], [], compile=True)
    assert [(each.backend, each.compile) for each in wanted] == [("torch", False), ("torch", True), ("onnx", False)]


def test_ours_finds_what_the_predictor_finds_and_knows_when(weights: Path) -> None:
    expected = open_tiny(weights).predict(IMAGES)
    candidate = OurCandidate("tiny", open_tiny(weights), 2)
    timed = candidate.detect(IMAGES)
    assert list(timed.seconds) == [PRE, NETWORK, POST] and min(timed.seconds.values()) > 0
    for found, wanted in zip(timed.detections, expected, strict=True):
        assert len(found) and np.array_equal(found.boxes, wanted.boxes) and np.array_equal(found.scores, wanted.scores)
    assert (candidate.backend, candidate.precision, candidate.img_size) == ("torch", "fp32", (64, 64))
    assert candidate.network_passes(2) > 0


def test_opencv_finds_the_same(weights: Path, tmp_path: Path) -> None:
    predictor = open_tiny(weights)
    timed = OpenCVBaseline(weights, predictor, 2, tmp_path).detect(IMAGES)
    assert list(timed.seconds) == [PRE, NETWORK, POST]
    for found, wanted in zip(timed.detections, predictor.predict(IMAGES), strict=True):
        assert len(found) and np.array_equal(found.labels, wanted.labels)
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.boxes, wanted.boxes, atol=1e-2, rtol=0)


def test_opencv_stands_once_beside_each_darknet_file_size_and_batch(weights: Path, tmp_path: Path) -> None:
    ours = [
        OurCandidate("tiny", open_tiny(weights), batch, darknet_file=file)
        for batch, file in [(1, weights), (1, weights), (2, weights), (1, None)]
    ]
    lines: list[str] = []
    baselines = opencv_baselines(ours, tmp_path, lines.append)
    assert [baseline.batch_size for baseline in baselines] == [1, 2] and not lines
    ours[0].own_predictor.metadata = ours[0].own_predictor.metadata.model_copy(
        update={"darknet_cfg": "[net]\n[what]\n"}
    )
    assert not opencv_baselines(ours[:1], tmp_path, lines.append)
    assert lines[0].startswith("skipped: OpenCV does not read tiny.weights")


class SlowBackend:
    """Counts what is in flight."""

    name, precision, slots = "slow", "fp32", 2

    def __init__(self) -> None:
        self.in_flight = self.most = self.finished = 0

    def start(self, batch: Batch) -> Wait:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)

        def wait() -> RawMaps:
            self.in_flight -= 1
            self.finished += 1
            return {"map": batch}

        return wait


def test_as_many_passes_in_flight_as_pay_off(weights: Path) -> None:
    predictor = open_tiny(weights)
    backend = SlowBackend()
    predictor.backend = backend
    candidate = OurCandidate("tiny", predictor)
    assert isinstance(predictor.backend, ClockedBackend) and predictor.backend.slots == 2
    candidate._batch = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    candidate.network_passes(5)
    assert (backend.most, backend.in_flight, backend.finished) == (2, 0, 5 + 2 * 2)  # some before and after


def test_passes_are_of_the_batch_of_the_last_detect_whatever_ran_in_between(weights: Path) -> None:
    predictor = open_tiny(weights)
    seen: list[int] = []

    class Noted(SlowBackend):
        def start(self, batch: Batch) -> Wait:
            seen.append(len(batch))
            return lambda: predictor_maps(torch.as_tensor(batch))

    predictor_maps = predictor.detector.dense
    predictor.backend = Noted()
    candidate = OurCandidate("tiny", predictor, 2)
    candidate.detect([IMAGES[0], IMAGES[0]])
    predictor.predict([IMAGES[0]])  # as a run end to end does with its last image
    assert seen == [2, 1]
    candidate.network_passes(2)
    assert set(seen[2:]) == {2}


def test_what_cannot_run_is_left_out(weights: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    wanted = [Combination(str(weights), "torch", "fp32"), Combination(str(weights), "torch", "int8")]
    opened = open_candidates(wanted, "cpu", tmp_path, lines.append)
    assert [each.weights for each in opened] == ["tiny.weights"] and opened[0].darknet_file == weights
    assert len(lines) == 1 and f"{weights} torch int8" in lines[0] and " export " in lines[0]
    with pytest.raises(UserError, match="weights"):
        open_candidates([Combination(str(tmp_path / "none.weights"))], "cpu", tmp_path, lines.append)


def test_random_weights_for_cfg_and_yaml(weights: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    cfgs = Path(__file__).resolve().parents[2] / "cfg"
    # Untrained, the last of these has numbers so large that they drown a bias.
    yamls = (cfgs / "yolofpn-tiny.yaml", cfgs / "yolofpn-add.yaml")
    wanted = [Combination(str(weights.with_suffix(".cfg")), "torch", "fp32")]
    wanted += [Combination(str(path), "torch", "fp32", (96, 96)) for path in yamls]
    opened = open_candidates(wanted, "cpu", made, pytest.fail)
    assert [each.is_random for each in opened] == [True, True, True]
    assert [each.darknet_file for each in opened] == [made / "tiny.weights", None, None]
    assert gflop(opened[0].own_predictor) == pytest.approx(2 * 3 * 7 * 2 * 2 / 1e9)  # 2 x 2 cells
    assert gflop(opened[1].own_predictor) == pytest.approx(5.46 * (96 / 416) ** 2, rel=2e-3)
    assert len(opened[1].own_predictor.names) == 80
    for each in opened:  # or NMS of nonsense would be what is measured
        assert len(each.detect(IMAGES[:1]).detections[0]) == 0
    assert cv2.dnn.readNetFromDarknet(str(made / "tiny.cfg"), str(made / "tiny.weights"))
