"""Images that shortest-edge brings to unequal sizes: apart by default, together where the user asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.small_dataset import write_dataset
from tests.models.two_stage.test_faster_rcnn import config, make
from yolofpn.cli.detect import build_parser as detect_parser
from yolofpn.cli.evaluate import build_parser as evaluate_parser
from yolofpn.config import InputConfig, Metadata, PostprocessConfig
from yolofpn.data.class_names import match_classes
from yolofpn.data.dataset import DetectionDataset, FlatStrings
from yolofpn.data.images import read_image
from yolofpn.evaluation.run_detector import Found, RunSettings, run_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.runtimes.backend import Wait
from yolofpn.structures import Detections

SHAPES = [(60, 80), (80, 60), (60, 80), (40, 90)]  # in pixels; the network sees 64 x 85, 85 x 64, 64 x 85, 42 x 96
MEAN = (0.2, 0.4, 0.6)


class Recorder:
    """Runs what ``backend`` runs, and remembers it."""

    def __init__(self, start: Callable[[Tensor], Wait]) -> None:
        self.start_it = start
        self.batches: list[Tensor] = []

    def __call__(self, batch: Tensor) -> Wait:
        self.batches.append(batch)
        return self.start_it(batch)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [tuple(batch.shape) for batch in self.batches]


def open_predictor(monkeypatch: pytest.MonkeyPatch, *, pad_batches: bool) -> tuple[Predictor, Recorder]:
    model = config()
    metadata = Metadata(
        model=model,
        input=InputConfig(size=(64, 96), resize="shortest-edge", mean=MEAN),
        postprocess=PostprocessConfig(score_thresh=0.3),
        names=("first", "second"),
    )
    detector = make(model)
    predictor = Predictor(detector, metadata, device="cpu", backend="torch", precision="fp32", pad_batches=pad_batches)
    recorder = Recorder(predictor.backend.start)
    monkeypatch.setattr(predictor.backend, "start", recorder)
    return predictor, recorder


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


def assert_the_same(one: Detections, other: Detections) -> None:
    assert len(one) == len(other) > 0 and one.labels.tolist() == other.labels.tolist()
    torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.05)
    torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_alone_and_in_a_batch_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, recorder = open_predictor(monkeypatch, pad_batches=False)
    alone = [predictor(image) for image in images()]
    recorder.batches.clear()
    together = predictor(images(), batch_size=4)
    assert recorder.shapes == [(3, 3, 64, 96), (1, 3, 96, 64)]  # equal ones share a pass
    for one, other in zip(alone, together, strict=True):
        assert_the_same(one, other)


@pytest.mark.slow
def test_padded_batches_are_as_large_as_their_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, recorder = open_predictor(monkeypatch, pad_batches=True)
    found = predictor(images(), batch_size=4)
    assert recorder.shapes == [(4, 3, 96, 96)]
    first = torch.as_tensor(recorder.batches[0][0])
    fill = 255 * torch.tensor(MEAN)
    assert torch.equal(first[:, 64:], fill[:, None, None].expand(3, 32, 96))
    assert torch.equal(first[:, :, 86:], fill[:, None, None].expand(3, 96, 10))
    for detections, (height, width) in zip(found, SHAPES, strict=True):
        assert len(detections) > 0
        assert detections.boxes[:, 2].max() <= width and detections.boxes[:, 3].max() <= height
    recorder.batches.clear()
    alone, _ = open_predictor(monkeypatch, pad_batches=False)
    (one,), other = predictor([images()[1]]), alone(images()[1])
    assert recorder.shapes == [(1, 3, 96, 64)]
    assert_the_same(one, other)


@pytest.fixture
def mixed(tmp_path: Path) -> DetectionDataset:
    """Four images of the shapes above."""
    dataset = write_dataset(tmp_path, count=4)
    for number, image in enumerate(images()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    return replace(
        dataset,
        paths=FlatStrings(str(tmp_path / f"{number}.png") for number in range(4)),
        sizes=np.array(SHAPES, dtype=np.int32),
    )


@pytest.mark.slow
def test_evaluation_in_batches(mixed: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*, pad_batches: bool) -> tuple[Found, Predictor, Recorder]:
        predictor, recorder = open_predictor(monkeypatch, pad_batches=pad_batches)
        match = match_classes(predictor.names, (), mixed.names, ())
        found = run_detector(predictor, mixed, match, RunSettings(4, workers=0, score_thresh=0.3))
        return found, predictor, recorder

    found, predictor, recorder = evaluate(pad_batches=False)
    assert [shape[0] for shape in recorder.shapes] == [1, 1, 1, 1]
    for number, (_, detections, _) in enumerate(found.metrics.images()):
        assert_the_same(detections, predictor(read_image(Path(mixed.paths[number]))))
    _, _, recorder = evaluate(pad_batches=True)
    assert recorder.shapes == [(4, 3, 96, 96)]


def test_the_flag_of_both_commands() -> None:
    for parser, words in ((detect_parser(), ["x.jpg"]), (evaluate_parser(), ["--data", "x"])):
        assert not parser.parse_args(words).pad_batches
        assert parser.parse_args([*words, "--pad-batches"]).pad_batches
