"""Uploaded videos on their way through the detector, frame by frame, and the files that come of them."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from yolofpn.demo.answers import describe, detect
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.uploads import Upload, UploadLimits
from yolofpn.errors import InputError, UserError
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.video_writer import VideoWriter
from yolofpn.structures import Detections, Frame

AT_ONCE = 8  # videos that are decoded and encoded at the same time; others wait
FORGOTTEN_AFTER = 300.0  # seconds without a question about it: its page was closed
MOST_JOBS = 64  # on this computer's disk


class VideoJob:
    """One upload and its results, in a folder of its own.

    Attributes:
        key: by which its page asks for it; cannot be guessed.
        folder: removed with the job.
        done: frames so far.
        state: 'waiting', 'running', 'done' or 'failed'.
        message: what went wrong.
    """

    def __init__(self, client: str, upload: Upload, folder: Path) -> None:
        self.client = client
        self.upload = upload
        self.folder = folder
        self.key = secrets.token_urlsafe(16)
        self.done = 0
        self.state = "waiting"
        self.message = ""
        self.counts: dict[str, int] = {}
        self.cancelled = False
        self.asked = time.monotonic()
        self._started = 0.0
        self._seconds = 0.0

    @property
    def video(self) -> Path:
        """The annotated H.264 video."""
        return self.folder / "annotated.mp4"

    @property
    def lines(self) -> Path:
        """The detections, one JSON line per frame."""
        return self.folder / "detections.jsonl"

    def status(self) -> dict[str, Any]:
        """For the page: how far it is, how fast, and what was found so far."""
        seconds = (time.monotonic() - self._started if self.state == "running" else self._seconds) or 1e-9
        return {
            "key": self.key,
            "name": self.upload.name,
            "state": self.state,
            "message": self.message,
            "done": self.done,
            "frames": self.upload.frame_count,
            "fps": round(self.done / seconds, 1) if self.done else 0.0,
            "counts": self.counts,
            "video": self.state in ("done", "failed") and self.video.is_file(),
        }

    def run(self, predictor: Predictor, queue: FairQueue, limits: UploadLimits) -> None:
        """Detect in every frame; what was done before a failure stays."""
        if self.cancelled:
            return
        self.state = "running"
        self._started = time.monotonic()
        try:
            self._process(predictor, queue, limits)
            self.state = "done"
        except UserError as error:
            self._fail(str(error))
        except CancelledError:
            self._fail("the server ends")
        except Exception:  # the page is not told how the server looks inside
            self._fail(f"{self.upload.name}: cannot be processed")
            if not self.cancelled:  # else its folder may just be gone
                logging.getLogger(__name__).exception("while processing a video")
        finally:
            self._seconds = time.monotonic() - self._started
            self.upload.path.unlink(missing_ok=True)
            if self.cancelled:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _process(self, predictor: Predictor, queue: FairQueue, limits: UploadLimits) -> None:
        writer: VideoWriter | None = None
        try:
            with self.lines.open("w", encoding="utf-8") as lines:
                for frame in self.upload.frames(limits):
                    if self.cancelled:
                        return
                    writer = writer or self._writer(frame)
                    found, seconds = queue.submit(self.client, partial(detect, predictor, frame.image)).result()
                    lines.write(json.dumps(describe(frame, found, seconds)) + "\n")
                    self._add(frame, found, writer)
        finally:
            if writer is not None:
                writer.close()

    def _writer(self, first: Frame) -> VideoWriter:
        sound = self.upload.path if self.upload.kind == "video" else None
        return VideoWriter(self.video, first.size, fps=self.upload.fps, sound=sound)

    def _add(self, frame: Frame, found: Detections, writer: VideoWriter) -> None:
        writer.write(found.draw(frame.image), frame.time, frame.duration)
        for name, count in found.counts().items():
            self.counts[name] = max(self.counts.get(name, 0), count)
        self.done += 1

    def _fail(self, message: str) -> None:
        self.state, self.message = "failed", message


class VideoJobs:
    """All videos of this server; a context manager whose end stops them.

    Args:
        queue: where the detector's turns are given out.
        limits: of uploads.
    """

    def __init__(self, queue: FairQueue, limits: UploadLimits) -> None:
        self._queue = queue
        self._limits = limits
        self._jobs: dict[str, VideoJob] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="video")

    def start(self, client: str, upload: Upload, folder: Path, predictor: Predictor) -> VideoJob:
        """Begin with a video, as soon as there is room; the client's video before it is dropped.

        Raises:
            InputError: too many videos are waiting.
        """
        self.drop_of(client)
        self.drop_forgotten()
        job = VideoJob(client, upload, folder)
        with self._lock:
            if len(self._jobs) >= MOST_JOBS:
                raise InputError("too many videos are being processed here: try again in some minutes")
            self._jobs[job.key] = job
        self._pool.submit(job.run, predictor, self._queue, self._limits)
        return job

    def get(self, client: str, key: str) -> VideoJob:
        """The job of this client.

        Raises:
            InputError: there is none.
        """
        job = self._jobs.get(key)
        if job is None or job.client != client:
            raise InputError("this video is not here any more: send it again")
        job.asked = time.monotonic()
        return job

    def drop_of(self, client: str) -> None:
        """Stop and remove the videos of one client."""
        self._drop(lambda job: job.client == client)

    def drop_forgotten(self) -> None:
        """Stop and remove the videos that nobody asks for any more."""
        limit = time.monotonic() - FORGOTTEN_AFTER
        self._drop(lambda job: job.asked < limit)

    def __enter__(self) -> VideoJobs:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop(lambda job: True)
        self._pool.shutdown(cancel_futures=True)

    def _drop(self, unwanted: Callable[[VideoJob], bool]) -> None:
        with self._lock:
            jobs = [job for job in self._jobs.values() if unwanted(job)]
            for job in jobs:
                del self._jobs[job.key]
        for job in jobs:
            job.cancelled = True  # a running one removes its folder itself, when it has closed its files
            if job.state != "running":
                shutil.rmtree(job.folder, ignore_errors=True)
