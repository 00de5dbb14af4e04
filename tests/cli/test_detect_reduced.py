"""JPEG images much larger than the network's input: decoded in part, with results in pixels of the whole image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn.cli import detect as command
from yolofpn.data.images import read_image
from yolofpn.data.reduced_images import read_reduced
from yolofpn.sources import kinds

pytestmark = pytest.mark.usefixtures("in_own_folder")
HEIGHT, WIDTH = 1030, 1545


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Receives the factor of each image that is read for the network."""
    found: list[int] = []

    def read(*arguments: Any, **options: Any) -> Any:
        reduced = read_reduced(*arguments, **options)
        found.append(reduced.factor)
        return reduced

    monkeypatch.setattr(kinds, "read_reduced", read)
    return found


@pytest.fixture
def detect(weights: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    def run(output: str, *words: object) -> list[dict[str, Any]]:
        arguments = ["images", "--weights", weights, "--backend", "torch", "--resize", "stretch", "--output", output]
        outcome = call(command.main, capsys, *arguments, *words)
        assert (outcome.code, outcome.err) == (0, "")
        return [json.loads(line) for line in Path(output, "detections.jsonl").read_text().splitlines()]

    return run


@pytest.mark.slow
def test_only_what_nobody_looks_at_is_reduced(detect: Any, factors: list[int]) -> None:
    Path("images").mkdir()
    cv2.imwrite("images/a.jpg", quarters(RED, GREEN, height=HEIGHT, width=WIDTH))
    cv2.imwrite("images/b.jpg", quarters(height=HEIGHT, width=WIDTH))
    whole = detect("all", "--media", "all")
    assert factors == [1, 1]
    factors.clear()
    reduced = detect("none", "--media", "none", "--format", "jsonl,crops,labels")
    assert len(factors) == 2
    assert min(factors) >= 2
    assert len(whole[0]["detections"]) == 2
    for before, after in zip(whole, reduced, strict=True):
        assert (after["width"], after["height"], after["source"]) == (WIDTH, HEIGHT, before["source"])
        for one, other in zip(before["detections"], after["detections"], strict=True):
            assert other["name"] == one["name"]
            assert other["box"] == pytest.approx(one["box"], abs=8)
    crop = next(Path("none/crops").rglob("a_*.jpg"))
    assert read_image(crop).shape[0] == pytest.approx(HEIGHT / 2, abs=10)
    assert read_image("none/dataset/train/images/a.jpg").shape == (HEIGHT, WIDTH, 3)
    detect("hits", "--media", "hits")
    assert read_image("hits/a.jpg").shape == (HEIGHT, WIDTH, 3)
    assert not Path("hits/b.jpg").exists()


def test_an_image_that_vanishes_before_it_is_drawn_is_a_failure(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("images").mkdir()
    cv2.imwrite("images/a.jpg", quarters(RED, height=HEIGHT, width=WIDTH))
    cv2.imwrite("images/b.jpg", quarters(RED, height=64, width=96))

    def read_once(target: Path, *arguments: Any, **options: Any) -> Any:
        reduced = read_reduced(target, *arguments, **options)
        if target.name == "a.jpg":
            target.unlink()
        return reduced

    monkeypatch.setattr(kinds, "read_reduced", read_once)
    words = ["images", "--weights", weights, "--backend", "torch", "--media", "hits", "--output", "out"]
    outcome = call(command.main, capsys, *words)
    assert outcome.code == 1
    assert "a.jpg" in outcome.err
    assert len(Path("out/detections.jsonl").read_text().splitlines()) == 2
    assert Path("out/b.jpg").exists()
