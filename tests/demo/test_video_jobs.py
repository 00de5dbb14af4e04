"""A video that nobody wants any more leaves the detector to the others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests.tiny_detector import RED, quarters
from tests.tracking.toy import Nearest
from tests.videos import write_video
from yolofpn import load_detector, tracking
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.uploads import Upload
from yolofpn.demo.video_jobs import VideoJobs
from yolofpn.demo.workers import Workers
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Detections, Image


class CountingPredictor:
    """Finds nothing, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, images: Sequence[Image], limits: object = None) -> list[Detections]:
        self.calls += 1
        return [Detections.empty() for _ in images]


def test_a_cancelled_video_takes_no_turn_of_the_detector(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)] * 3)
    folder = tmp_path / "job"
    folder.mkdir()
    predictor, others_turn, asked = CountingPredictor(), threading.Event(), threading.Event()

    class Queue(FairQueue):
        def submit(self, client: str, job: Any) -> Any:
            future = super().submit(client, job)
            if client == "me":
                asked.set()
            return future

    async def run(queue: FairQueue) -> str:
        workers = Workers(2, 1_000_000)
        try:
            async with VideoJobs(queue, workers, ServerLimits()) as jobs:
                job = jobs.start("me", Upload(clip, "clip.mp4", "video", 1), folder, cast("Predictor", predictor))
                assert await asyncio.to_thread(asked.wait, 60)
            return job.state  # the end of the jobs has waited for this one, while the other client has the detector
        finally:
            workers.close()

    with Queue() as queue:
        other = queue.submit("other", lambda: others_turn.wait(60))
        state = asyncio.run(run(queue))
        others_turn.set()
        assert other.result() and queue.submit("other", lambda: True).result()
    assert state == "done" and predictor.calls == 0
    assert not folder.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "Background"]


def test_a_video_is_tracked_if_wanted(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", (Nearest,))
    predictor = load_detector(weights, classes="red")
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)] * 3)
    (tmp_path / "job").mkdir()

    async def run(queue: FairQueue) -> list[Any]:
        workers = Workers(2, 1_000_000)
        try:
            async with VideoJobs(queue, workers, ServerLimits()) as jobs:
                upload = Upload(clip, "clip.mp4", "video", 3)
                job = jobs.start("me", upload, tmp_path / "job", predictor, track=True)
                while job.state in ("waiting", "running"):
                    await asyncio.sleep(0.01)
                return [json.loads(line)["detections"] for line in job.lines.read_text().splitlines()]
        finally:
            workers.close()

    with FairQueue() as queue:
        lines = asyncio.run(run(queue))
    assert [[found["track_id"] for found in line] for line in lines] == [[1]] * 3
