"""One picture after the other through every stage of detection, each timed; and all of it as detect.py does it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from yolofpn.benchmark.contenders import Contender
from yolofpn.errors import InputError, UserError
from yolofpn.inference.media import encode_image
from yolofpn.inference.pipeline import results_of, written
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.record_sinks import record
from yolofpn.inference.report import Report
from yolofpn.inference.sinks import build_sinks
from yolofpn.inference.sources import Source
from yolofpn.inference.video_writer import VideoWriter
from yolofpn.structures import Frame, Image

DECODE, DRAW, ENCODE, JSON = "decode", "draw", "encode", "JSON"


class Stages:
    """Takes pictures from sources over and over, and each through every stage of one contender.

    Args:
        contender: detects.
        sources: pictures and videos.
        folder: receives videos.

    Attributes:
        seconds: of every stage, for each picture the seconds that it took; of a batch each picture's share.
    """

    def __init__(self, contender: Contender, sources: Sequence[Source], folder: Path) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._contender = contender
        self._frames = endless_frames(sources)
        self._folder = folder
        self._writer: VideoWriter | None = None
        self._writer_size = (0, 0)
        self._count = 0

    def turn(self, seconds: float, at_least: int = 2) -> list[float]:
        """Passes for about so many seconds; those that each picture's took in all."""
        start = time.perf_counter()
        taken: list[float] = []
        while len(taken) < at_least or time.perf_counter() - start < seconds:
            taken.append(self._pass())
        return taken

    def close(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    def _pass(self) -> float:
        count = self._contender.batch_size
        begin = time.perf_counter()
        taken = list(islice(self._frames, count))
        sums = {DECODE: time.perf_counter() - begin}
        frames = [frame for _, frame in taken]
        found = self._contender.detect([frame.image for frame in frames])
        sums |= found.seconds | {DRAW: 0.0, ENCODE: 0.0, JSON: 0.0}
        for (source, frame), detections in zip(taken, found.detections, strict=True):
            times = [time.perf_counter()]
            drawn = detections.draw(frame.image)
            times.append(time.perf_counter())
            self._encode(drawn, source)
            times.append(time.perf_counter())
            json.dumps(record(frame, detections))
            times.append(time.perf_counter())
            for stage, start, end in zip((DRAW, ENCODE, JSON), times, times[1:], strict=False):
                sums[stage] += end - start
        for stage, total in sums.items():
            self.seconds.setdefault(stage, []).append(total / count)
        return sum(sums.values()) / count

    def _encode(self, image: Image, source: Source) -> None:
        if source.kind == "image":
            encode_image(image, source.relative_path.suffix)
            return
        size = (image.shape[0], image.shape[1])
        if self._writer is None or size != self._writer_size:
            self.close()
            self._writer = VideoWriter(self._folder / f"{id(self)}.mp4", size, fps=source.fps)
            self._writer_size = size
        self._writer.write(image, self._count / 25)
        self._count += 1


def endless_frames(sources: Sequence[Source]) -> Iterator[tuple[Source, Frame]]:
    """The sources' frames, from the start again when they end.

    Raises:
        UserError: none of the sources can be read.
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
    """Seconds for each picture of all that ``detect.py`` does, from files to an annotated video and JSON lines.

    Args:
        predictor: detects.
        sources: pictures and videos.
        batch_size: pictures of a pass.
        frames: so many at most.

    Raises:
        UserError: nothing can be read or written.
    """
    report = Report(io.StringIO())
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with closing(results_of(first_frames(sources, frames), predictor, report, batch_size=batch_size)) as results:
            sinks = build_sinks(Path(folder))
            with sinks:
                count = sum(1 for _ in written(results, sinks, report))
        seconds = time.perf_counter() - start
    if not count:
        raise UserError("no source can be read")
    return seconds / count


def first_frames(sources: Sequence[Source], frames: int) -> Iterator[Source]:
    """The same sources, which end after so many frames of all of them together."""
    left = frames

    def some(source: Source) -> Iterator[Frame]:
        nonlocal left
        for frame in islice(source.frames(), left):
            left -= 1
            yield frame

    for source in sources:
        if left > 0:
            yield replace(source, read=partial(some, source))
