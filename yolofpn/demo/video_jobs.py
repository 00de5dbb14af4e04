"""Uploaded videos on their way through the detector, frame by frame, and the files that come of them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from yolofpn.demo.answers import describe
from yolofpn.demo.fair_queue import FairQueue
from yolofpn.demo.follow import Follower
from yolofpn.demo.limits import MIB, ServerLimits, UploadLimits
from yolofpn.demo.uploads import Upload
from yolofpn.demo.workers import Workers
from yolofpn.errors import InputError, UserError
from yolofpn.inference.pipeline import results_of
from yolofpn.inference.predictor import Predictor
from yolofpn.results import Failure
from yolofpn.sources.resolve import Source
from yolofpn.structures import Detections, Frame, Image, Limits, WholeImage
from yolofpn.video.writer import VideoWriter

LOOK_EVERY = 0.005  # seconds


class VideoJob:
    """One upload and its results, in a folder of its own.

    Attributes:
        track: whether objects are tracked.
        key: by which its page asks for it; cannot be guessed.
        folder: removed with the job.
        done: frames so far.
        state: 'waiting', 'running', 'done' or 'failed'.
        message: what went wrong.
    """

    def __init__(self, client: str, upload: Upload, folder: Path, *, track: bool = False) -> None:
        self.client = client
        self.track = track
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

    async def run(self, predictor: Predictor, queue: FairQueue, workers: Workers, limits: ServerLimits) -> None:
        """Detect in every frame; what was done before a failure stays."""
        if self.cancelled:
            return
        self.state = "running"
        self._started = time.monotonic()
        try:
            await self._process(predictor, queue, workers, limits)
            self.state = "done"
        except UserError as error:
            self._fail(str(error))
        except CancelledError:  # the detector's queue is closed
            self._fail(f"{self.upload.name}: stopped")
        except Exception:  # the page is not told how the server looks inside
            self._fail(f"{self.upload.name}: cannot be processed")
            if not self.cancelled:  # else its folder may just be gone
                logging.getLogger(__name__).exception("while processing a video")
        finally:
            self._seconds = time.monotonic() - self._started
            self.upload.path.unlink(missing_ok=True)
            if self.cancelled:
                shutil.rmtree(self.folder, ignore_errors=True)

    async def _process(self, predictor: Predictor, queue: FairQueue, workers: Workers, limits: ServerLimits) -> None:
        """The pipeline of detect.py; drawing and encoding take a thread of the pool for one frame."""
        files = _Results(self, limits.upload)
        turns = _Turns(predictor, queue, self.client)
        frames = partial(self.upload.frames, limits.upload)
        source = Source(self.upload.name, "video", Path(self.upload.path.name), frames)
        follower = await workers.run(partial(Follower, predictor, limits.settings, track=self.track))
        results = results_of(iter([source]), turns, limits=follower.limits)
        try:
            while not self.cancelled:
                if not results.ready:
                    await asyncio.sleep(LOOK_EVERY)  # no thread of the pool waits for the detector
                    continue
                match next(results, None):
                    case None:
                        return
                    case Failure(message):
                        raise InputError(message)
                    case result:
                        found = await workers.run(follower.follow, result.frame, result.detections)
                        await workers.run(files.add, result.frame, found, turns.seconds.popleft())
                        for name, count in found.counts().items():
                            self.counts[name] = max(self.counts.get(name, 0), count)
                        self.done += 1
        finally:
            turns.cancel()  # else the pipeline's thread waits for its turn, and ``close`` for that thread
            await workers.run(results.close)
            await workers.run(files.close)

    def _fail(self, message: str) -> None:
        self.state, self.message = "failed", message


class _Turns:
    """Stands before a predictor in the pipeline: each frame waits for its client's turn.

    Attributes:
        seconds: that the detector took for each frame, without waiting for its turn.
    """

    slots = 1

    def __init__(self, predictor: Predictor, queue: FairQueue, client: str) -> None:
        self._predictor = predictor
        self._queue = queue
        self._client = client
        self._lock = Lock()
        self._cancelled = False
        self._future: Future[list[Detections]] | None = None
        self.seconds: deque[float] = deque()

    def start(
        self,
        images: Sequence[Image],
        limits: Limits | None = None,
        wholes: Sequence[WholeImage | None] | None = None,
    ) -> Future[list[Detections]]:
        """Ask for the next turn; frames of videos are not reduced, so ``wholes`` is None.

        Raises:
            CancelledError: there are no more turns.
        """
        with self._lock:
            if self._cancelled:
                raise CancelledError
            self._future = self._queue.submit(self._client, partial(self._detect, images, limits))
            return self._future

    def cancel(self) -> None:
        """Take no more turns; whoever waits for one gets a ``CancelledError``."""
        with self._lock:
            self._cancelled = True
            if self._future is not None:
                self._future.cancel()

    def _detect(self, images: Sequence[Image], limits: Limits | None) -> list[Detections]:
        start = time.perf_counter()
        found = self._predictor.predict(images, limits)
        self.seconds.append(time.perf_counter() - start)
        return found


class _Results:
    """The files that come of a video."""

    def __init__(self, job: VideoJob, limits: UploadLimits) -> None:
        self._job = job
        self._most_bytes = limits.result_bytes
        self._lines = job.lines.open("w", encoding="utf-8")
        self._writer: VideoWriter | None = None

    def add(self, frame: Frame, found: Detections, seconds: float) -> None:
        """Write one frame.

        Raises:
            InputError: if the annotated video is too large.
        """
        if self._writer is None:
            upload = self._job.upload
            sound = upload.path if upload.kind == "video" else None
            self._writer = VideoWriter(self._job.video, frame.size, fps=upload.fps, sound=sound, background=False)
        elif self._job.video.is_file() and self._job.video.stat().st_size > self._most_bytes:
            raise InputError(
                f"{self._job.upload.name}: the annotated video is larger than {self._most_bytes / MIB:.0f} MiB; "
                "the part before that was processed"
            )
        self._lines.write(json.dumps(describe(frame, found, seconds)) + "\n")
        self._writer.write(found.draw(frame.image), frame.time, frame.duration)

    def close(self) -> None:
        """Finish the files, or leave them to be removed."""
        self._lines.close()
        if self._writer is not None and self._job.cancelled:
            self._writer.discard()
        elif self._writer is not None:
            self._writer.close()


class VideoJobs:
    """All videos of this server; an asynchronous context manager whose end stops them after the frame under way.

    Args:
        queue: where the detector's turns are given out.
        workers: what decodes and encodes.
        limits: of uploads, and of the work at once.
    """

    def __init__(self, queue: FairQueue, workers: Workers, limits: ServerLimits) -> None:
        self._queue = queue
        self._workers = workers
        self._limits = limits
        self._jobs: dict[str, VideoJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(limits.work.videos)

    def start(
        self, client: str, upload: Upload, folder: Path, predictor: Predictor, *, track: bool = False
    ) -> VideoJob:
        """Begin with a video, as soon as there is room; the client's video before it is dropped.

        Raises:
            InputError: if too many videos are waiting.
        """
        self._drop(lambda job: job.client == client)
        self.drop_forgotten()
        if len(self._jobs) >= self._limits.work.kept_videos:
            raise InputError("too many videos are being processed here: try again in some minutes")
        job = VideoJob(client, upload, folder, track=track)
        self._jobs[job.key] = job
        task = asyncio.get_running_loop().create_task(self._run(job, predictor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def get(self, client: str, key: str) -> VideoJob:
        """The job of this client.

        Raises:
            InputError: if there is none.
        """
        job = self._jobs.get(key)
        if job is None or job.client != client:
            raise InputError("this video is not here any more: send it again")
        job.asked = time.monotonic()
        return job

    def has(self, folder: Path) -> bool:
        """Whether a folder is that of a video here."""
        return any(job.folder == folder for job in self._jobs.values())

    def drop_forgotten(self) -> None:
        """Stop and remove the videos that nobody asks for any more."""
        limit = time.monotonic() - self._limits.work.forgotten_seconds
        self._drop(lambda job: job.asked < limit)

    async def __aenter__(self) -> VideoJobs:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drop(lambda job: True)
        await asyncio.gather(*self._tasks)

    async def _run(self, job: VideoJob, predictor: Predictor) -> None:
        async with self._slots:
            await job.run(predictor, self._queue, self._workers, self._limits)

    def _drop(self, unwanted: Callable[[VideoJob], bool]) -> None:
        for job in [job for job in self._jobs.values() if unwanted(job)]:
            del self._jobs[job.key]
            job.cancelled = True  # a running one removes its folder itself, when it has closed its files
            if job.state != "running":
                shutil.rmtree(job.folder, ignore_errors=True)
