"""A sink of somebody else's: a class and one more entry in the tuple of sinks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import cv2
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn import sinks
from yolofpn.cli.detect import main
from yolofpn.sinks.output_names import SourceInfo
from yolofpn.structures import Detections, Frame


class CountSink:
    key: ClassVar[str] = "count"
    help: ClassVar[str] = "counts.txt, the number of detections of each image"
    folder: ClassVar[str | None] = None

    def __init__(self, output: Path) -> None:
        self._file = (output / "counts.txt").open("w")

    def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
        self._file.write(f"{source.name}: {len(detections)}\n")

    def close(self) -> None:
        self._file.close()


def test_detect_offers_and_runs_a_sink_from_outside(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "SINKS", (*sinks.SINKS, CountSink))
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED, GREEN))
    out = tmp_path / "out"
    outcome = call(main, capsys, tmp_path / "a.png", "--weights", weights, "--output", out, "--format", "count")
    assert (outcome.code, outcome.err) == (0, "")
    assert (out / "counts.txt").read_text().endswith("a.png: 2\n")
    assert (out / "detections.jsonl").exists()
    outcome = call(main, capsys, tmp_path / "a.png", "--weights", weights, "--output", "-", "--format", "count")
    assert outcome.code == 2
    assert "'count'" in outcome.err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert CountSink.help in " ".join(capsys.readouterr().out.split())
