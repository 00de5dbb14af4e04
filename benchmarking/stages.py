"""Times every stage of detection, and whole runs of the pipeline of detect.py."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from benchmarking.candidates import NETWORK, POST, PRE, Candidate
from yolofpn.errors import InputError, UserError
from yolofpn.inference.pipeline import results_of, written
from yolofpn.inference.predictor import Predictor
from yolofpn.results import Result
from yolofpn.sinks.image_files import encode_image
from yolofpn.sinks.opened import build_sinks
from yolofpn.sinks.records import record
from yolofpn.sources.resolve import Source
from yolofpn.structures import Frame, Image
from yolofpn.video.writer import VideoWriter

DECODE, DRAW, ENCODE, JSON = "decode", "draw", "encode", "JSON"
MOST_KEPT = 128  # drawn images that wait for the encoder


class Stages:
    """Takes images from sources over and over, and each through every stage of one candidate.

    Nothing overlaps here: videos, which are written by a thread of their own, are encoded at the end of each turn.

    Args:
        candidate: detects.
        sources: images and videos.
        folder: receives videos, which are removed again.

    Attributes:
        seconds: of every stage, what an image took each time: of a batch each image's share, of the frames of a
            video that were encoded in one turn their mean.
    """

    def __init__(self, candidate: Candidate, sources: Sequence[Source], folder: Path) -> None:
        self.seconds: dict[str, list[float]] = {stage: [] for stage in (DECODE, PRE, NETWORK, POST, DRAW, ENCODE, JSON)}
        self._contender = candidate
        self._frames = endless_frames(sources)
        self._folder = folder

    def turn(self, seconds: float, at_least: int = 2) -> list[float]:
        """Passes for about so many seconds; what each of their images took in all, one mean."""
        begin = {stage: len(values) for stage, values in self.seconds.items()}
        start = time.perf_counter()
        passes = 0
        drawn: list[tuple[Source, Image]] = []
        while passes < at_least or (time.perf_counter() - start < seconds and len(drawn) < MOST_KEPT):
            drawn += self._pass()
            passes += 1
        self._encode(drawn)
        return [sum(fmean(values[begin[stage] :]) for stage, values in self.seconds.items())]

    def clear(self) -> None:
        """Discard the measurements so far."""
        for values in self.seconds.values():
            values.clear()

    def _pass(self) -> list[tuple[Source, Image]]:
        count = self._contender.batch_size
        begin = time.perf_counter()
        taken = list(islice(self._frames, count))
        sums = {DECODE: time.perf_counter() - begin, DRAW: 0.0, JSON: 0.0}
        found = self._contender.detect([frame.image for _, frame in taken])
        drawn: list[tuple[Source, Image]] = []
        for (source, frame), detections in zip(taken, found.detections, strict=True):
            times = [time.perf_counter()]
            drawn.append((source, detections.draw(frame.image)))
            times.append(time.perf_counter())
            json.dumps(record(frame, detections))
            times.append(time.perf_counter())
            sums[DRAW] += times[1] - times[0]
            sums[JSON] += times[2] - times[1]
        for stage, total in (sums | found.seconds).items():
            self.seconds[stage].append(total / count)
        return drawn

    def _encode(self, drawn: Sequence[tuple[Source, Image]]) -> None:
        frames: list[Image] = []
        for source, image in drawn:
            if source.kind == "image":
                start = time.perf_counter()
                encode_image(image, source.relative_path.suffix)
                self.seconds[ENCODE].append(time.perf_counter() - start)
            else:
                frames.append(image)
        for size in dict.fromkeys(image.shape for image in frames):
            self.seconds[ENCODE].append(self._encode_video([image for image in frames if image.shape == size]))

    def _encode_video(self, images: Sequence[Image]) -> float:
        """Return the seconds per frame, from the first frame to the finished file."""
        start = time.perf_counter()
        writer = VideoWriter(self._folder / f"{id(self)}.mp4", (images[0].shape[0], images[0].shape[1]), fps=25)
        for number, image in enumerate(images):
            writer.write(image, number / 25)
        writer.close()
        seconds = time.perf_counter() - start
        writer.path.unlink()
        return seconds / len(images)


def endless_frames(sources: Sequence[Source]) -> Iterator[tuple[Source, Frame]]:
    """The sources' frames, from the start again when they end.

    Raises:
        UserError: if none of the sources can be read.
    """
    readable = list(sources)
    for source in cycle(sources):
        if source not in readable:
            continue
        given = 0
        try:
            for frame in source.frames():
                yield source, frame
                given += 1
        except InputError as error:
            if not given:
                readable.remove(source)
            if not readable:
                raise UserError(f"no source can be read: {error}") from None


def end_to_end(predictor: Predictor, sources: Sequence[Source], batch_size: int, frames: int) -> float:
    """Return the seconds per image of a whole run of ``detect.py``, with annotated video and JSON Lines.

    Args:
        predictor: detects.
        sources: images and videos.
        batch_size: images of a pass.
        frames: so many at most.

    Raises:
        UserError: if nothing can be read or written.
    """
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with closing(results_of(first_frames(sources, frames), predictor, batch_size=batch_size)) as results:
            sinks = build_sinks(Path(folder))
            with sinks:
                count = sum(isinstance(item, Result) for item in written(results, sinks))
        seconds = time.perf_counter() - start
    if not count:
        raise UserError("no source can be read")
    return seconds / count


def first_frames(sources: Sequence[Source], frames: int) -> Iterator[Source]:
    """Limit the total number of frames of the sources."""
    left = frames

    def some(source: Source) -> Iterator[Frame]:
        nonlocal left
        for frame in islice(source.frames(), left):
            left -= 1
            yield frame

    for source in sources:
        if left > 0:
            yield replace(source, read=partial(some, source))
