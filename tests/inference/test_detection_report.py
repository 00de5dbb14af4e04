from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from yolofpn.inference import detection_report as report_module
from yolofpn.inference.detection_report import Report, describe
from yolofpn.results import Result
from yolofpn.sources.kinds import Source
from yolofpn.structures import Detections, Frame

NAMES = ("bicycle", "dog", "truck")
FRAME = Frame(np.zeros((576, 768, 3), np.uint8), "x")


def source(name: str, kind: Literal["image", "video", "stream"], frame_count: int | None = None) -> Source:
    return Source(name, kind, Path(name), lambda: iter(()), frame_count=frame_count)


def found(*labels_and_scores: tuple[int, float]) -> Detections:
    labels = torch.tensor([label for label, _ in labels_and_scores], dtype=torch.int64)
    scores = torch.tensor([score for _, score in labels_and_scores])
    return Detections(torch.zeros(len(labels), 4), scores, labels, NAMES)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_was_found_in_words() -> None:
    assert describe(found((1, 0.994), (2, 0.92), (1, 0.5), (0, 0.25))) == "2 dog .99, 1 truck .92, 1 bicycle .25"
    assert describe(found((1, 0.999))) == "1 dog 1.00"
    assert describe(found()) == "nothing"


def test_an_image_is_a_line_as_documented() -> None:
    stream = io.StringIO()
    detection_report = Report(stream)
    detection_report.take(Result(source("dog.jpg", "image"), FRAME, found((0, 0.98), (1, 0.99), (2, 0.92)), 0.0611))
    assert stream.getvalue() == "dog.jpg 768x576: 1 bicycle .98, 1 dog .99, 1 truck .92 (61 ms)\n"


def test_summary(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stream = io.StringIO()
    detection_report = Report(stream)
    now = 200.0  # reading the weights is no part of the speed
    detection_report.start_clock()
    detection_report.take(Result(source("a.jpg", "image"), FRAME, found((1, 0.9), (1, 0.8)), 0.5))
    clip = source("b.mp4", "video")
    detection_report.take(Result(clip, FRAME, found((2, 0.9)), 0.25))
    detection_report.take(Result(clip, FRAME, found(), 0.25))
    detection_report.fail("c.jpg: no such file")
    now = 206.0
    assert detection_report.finish(Path("out")) == 1
    assert stream.getvalue().splitlines()[1:] == [
        "b.mp4: 2 frames",
        "1 image and 2 frames, 1 failed: found 2 dog, 1 truck",
        "3.0 FPS network, 0.5 FPS end to end",
        "results: out",
    ]
    assert capsys.readouterr() == ("", "failed: c.jpg: no such file\n")


def test_nothing_found_nothing_failed_nowhere_to_look() -> None:
    stream = io.StringIO()
    detection_report = Report(stream)
    detection_report.take(Result(source("a.mp4", "video"), FRAME, found(), 0.1))
    assert detection_report.finish(None) == 0
    assert stream.getvalue().splitlines()[1] == "1 frame: found nothing"
    assert "results" not in stream.getvalue()


def test_lines_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    stream = io.StringIO()
    detection_report = Report(stream)
    clip = source("a.mp4", "video", 30)
    for _ in range(25):
        now += 1
        detection_report.take(Result(clip, FRAME, found((1, 0.5)), 0.1))
    detection_report.take(Result(source("b.mp4", "video"), FRAME, found(), 0.1))
    assert stream.getvalue().splitlines() == [
        "a.mp4: 12 frames so far, now 1 dog .50",
        "a.mp4: 23 frames so far, now 1 dog .50",
        "a.mp4: 25 frames",
    ]


def test_a_bar_for_each_video_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    detection_report = Report(stream)
    clips = [source("a.mp4", "video", 3), source("b.mp4", "video")]
    for clip in clips:
        for _ in range(3):
            detection_report.take(Result(clip, FRAME, found(), 0.1))
    detection_report.take(Result(source("c.jpg", "image"), FRAME, found(), 0.1))
    detection_report.fail("d.jpg: empty")
    detection_report.finish(None)
    text = stream.getvalue()
    assert re.search(r"a\.mp4: 100%.*3/3", text)
    assert re.search(r"b\.mp4: 3frame", text)
    assert text.index("b.mp4: 3frame") < text.index("c.jpg 768x576: nothing")
    assert capsys.readouterr().err == "failed: d.jpg: empty\n"


def test_one_bar_for_all_images_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "IMAGES_BY_LINE", 2)
    stream = Terminal()
    detection_report = Report(stream)
    for number in range(5):
        detection_report.take(Result(source(f"{number}.jpg", "image"), FRAME, found(), 0.1))
    detection_report.finish(None)
    text = stream.getvalue()
    assert [f"{number}.jpg 768x576" in text for number in range(5)] == [True, True, False, False, False]
    assert "more images: 3image" in text
    assert "5 images: found nothing" in text
