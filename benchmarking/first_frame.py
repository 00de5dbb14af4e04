"""``benchmark.py --start``, second table: the first detections of a short video and of a live stream.

Every run is a process of its own, from its start to its first line of results on standard output; then it is ended.
The cold ones have an empty cache, as on a machine that has never run it, the warm ones that of a whole run before
them. Both take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarking.start import Candidate, environment, run
from yolofpn.data.images import read_image
from yolofpn.errors import UserError
from yolofpn.ops.resize import resize_image
from yolofpn.shipped import sample_images
from yolofpn.sinks.image_files import encode_image
from yolofpn.structures import Image
from yolofpn.video.writer import VideoWriter

SIZE = (480, 640)  # height and width of the frames
FRAMES, FPS = 50, 25  # two seconds
LONGEST = 120.0  # seconds to the first detections


@dataclass
class FirstFrameRow:
    """One candidate on one kind of source.

    Attributes:
        name: of the candidate.
        source: 'video' or 'live'.
        cold: seconds from the start of the program to its first detections, with an empty cache.
        warm: the same with a full one.
    """

    name: str
    source: str
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Medians, beside what they are medians of."""
        cold, warm = statistics.median(self.cold), statistics.median(self.warm)
        rounds = {"cold": self.cold, "warm": self.warm}
        return {"name": self.name, "source": self.source, "cold_s": cold, "warm_s": warm, "rounds": rounds}


def measure_first_frames(candidates: Sequence[Candidate], rounds: int) -> list[dict[str, Any]]:
    """The rows of the table.

    Args:
        candidates: each is measured on a video and on a live stream of the same frames.
        rounds: runs of each.

    Raises:
        UserError: a candidate fails.
    """
    frames = _frames()
    rows = []
    with tempfile.TemporaryDirectory() as name, served(frames) as url:
        folder = Path(name)
        video = folder / "video.mp4"
        writer = VideoWriter(video, SIZE, fps=FPS)
        for number, frame in enumerate(frames):
            writer.write(frame, number / FPS)
        writer.close()
        for number, candidate in enumerate(candidates):
            full = folder / f"cache-{number}"
            _whole(candidate, video, full, folder)
            own = [FirstFrameRow(candidate.name, "video"), FirstFrameRow(candidate.name, "live")]
            for _ in range(rounds):
                for row, source in zip(own, (str(video), url), strict=True):
                    with tempfile.TemporaryDirectory(dir=folder) as empty:
                        row.cold.append(first_line(candidate, source, Path(empty), folder))
                    row.warm.append(first_line(candidate, source, full, folder))
            rows += [row.to_json() for row in own]
    return rows


def first_line(candidate: Candidate, source: str, cache: Path, bytecode: Path) -> float:
    """Seconds from the start of ``detect.py`` to its first line of results.

    Args:
        candidate: runs.
        source: a video or an address.
        cache: the folder of converted graphs.
        bytecode: where compiled modules are kept from run to run.

    Raises:
        UserError: it ends without one, or there is none in ``LONGEST`` seconds.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        candidate.command(source, "-"),
        cwd=cache,
        env=environment(candidate.checkout, cache, bytecode),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    limit = threading.Timer(LONGEST, process.kill)
    limit.start()
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        limit.cancel()
        process.terminate()
        process.stdout.read()
    if not line.startswith(b"{"):
        raise UserError(f"{candidate.name}: no detections in {source}")
    return seconds


def _whole(candidate: Candidate, video: Path, cache: Path, bytecode: Path) -> None:
    """A run to its end, which compiles modules and fills the cache."""
    cache.mkdir()
    run(candidate.command(str(video), "-"), candidate.checkout, cache, bytecode)


def _frames() -> list[Image]:
    """The sample images as frames of a short video."""
    images = [resize_image(read_image(path), SIZE, "stretch")[0] for path in sample_images()]
    return [images[number * len(images) // FRAMES] for number in range(FRAMES)]


@contextmanager
def served(frames: Sequence[Image]) -> Iterator[str]:
    """The address of a camera on this machine: an MJPEG stream that repeats ``frames`` at ``FPS`` without end."""
    parts = []
    for frame in frames:
        data = encode_image(frame, ".jpg")[0]
        parts.append(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data))

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the client has gone
                for part in cycle(parts):
                    self.wfile.write(part)
                    time.sleep(1 / FPS)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/live.mjpg"
        finally:
            server.shutdown()
            thread.join()
