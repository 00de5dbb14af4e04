"""Commands around detection with weights that take bands: each works, or says in one line why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import call
from tests.data.band_images import write_band_images, write_band_weights
from yolofpn.__main__ import main

TORCH = ("--backend", "torch")


@pytest.mark.slow
def test_images_of_bands_are_tiled_and_checked_for_label_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, data = write_band_weights(tmp_path), write_band_images(tmp_path / "data")
    images, lowest = data.parent / "images", ("--score-thresh", "1e-4")
    found = {}
    for name, more in (("whole", ()), ("tiles", ("--tile", 32)), ("pyramid", ("--pyramid", "64,96"))):
        output = tmp_path / name
        words = (images, "--weights", weights, "--output", output, "--media", "none", *lowest, *more)
        assert call(main, capsys, "detect", *words, *TORCH).code == 0
        lines = [json.loads(line) for line in (output / "detections.jsonl").read_text().splitlines()]
        found[name] = [line["detections"] for line in lines]
        assert len(lines) == 3 and all(found[name])
    assert found["tiles"] != found["whole"] != found["pyramid"]
    for flags in ((), ("--quick",)):
        output = tmp_path / f"mistakes{len(flags)}"
        words = ("--data", data, "--weights", weights, "--workers", 0, "--output", output, *TORCH)
        outcome = call(main, capsys, "mistakes", *words, *flags)
        assert outcome.code == 0, outcome.err
        assert (output / "index.html").is_file() and "failed" not in outcome.err


@pytest.mark.slow
def test_what_has_no_bands_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_band_weights(tmp_path)
    for words in (
        ("export", "--weights", weights, "--format", "darknet", tmp_path / "a.weights"),
        ("export", "--weights", weights, "--format", "triton", tmp_path / "model"),
        ("detect", "--weights", weights, "--depth", "minmax", "--output", tmp_path / "out"),
        ("tune", weights),
    ):
        outcome = call(main, capsys, *words)
        assert outcome.code == 2 and outcome.err.count("\n") == 1 and "8-bit colours" in outcome.err, words
        assert {path.name for path in tmp_path.iterdir()} == {weights.name}
