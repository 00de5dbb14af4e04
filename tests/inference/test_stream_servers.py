"""Streams from real servers on this computer that are stopped, frozen, cut off and started with another size."""

from __future__ import annotations

import functools
import gc
import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from yolofpn.sources.live import capture as live
from yolofpn.sources.live.capture import LiveCapture, Patience
from yolofpn.sources.live.network_stream import connect_stream
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Frame

pytestmark = pytest.mark.slow
QUICK = Patience(
    open_timeout=30.0, read_timeout=10.0, first_pause=0.2, longest_pause=0.5, stale_after=0.4, stale_every=0.2
)
LONG = 120.0  # seconds that a busy machine may take for what takes two


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Server:
    """A program that serves a stream, in any of its states."""

    def __init__(self, start: Callable[[str], subprocess.Popen[str]], url: str) -> None:
        self._start = start
        self.url = url
        self.process: subprocess.Popen[str] | None = None

    def start(self, size: str = "384x216") -> None:
        self.process = self._start(size)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def clip(data_dir: Path) -> Path:
    return data_dir / "videos" / "one-by-one-person-detection.mp4"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def rtsp(clip: Path) -> Iterator[Server]:
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
    check += "from gi.repository import Gst; Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    if not Path(python).exists() or subprocess.run([python, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip(
            "needs an RTSP server (Debian packages gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-rtsp "
            "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-libav)"
        )
    port = free_port()

    def start(size: str) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("rtsp_server.py")
        command = [python, str(script), str(clip), *size.split("x"), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(port)
        return process

    server = Server(start, f"rtsp://127.0.0.1:{port}/live")
    yield server
    server.kill()


@pytest.fixture
def mjpeg(clip: Path) -> Iterator[Server]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/live.mjpg"

    def start(size: str) -> subprocess.Popen[str]:
        command = [program("ffmpeg"), "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip)]
        command += ["-vf", f"scale={size.replace('x', ':')},setsar=1", "-q:v", "5", "-an", "-f", "mpjpeg"]
        command += ["-listen", "1", "-content_type", "multipart/x-mixed-replace;boundary=ffmpeg", url]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)

    server = Server(start, url)
    yield server
    server.kill()


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian package {name})")
    return found


def capture_of(url: str) -> LiveCapture:
    return LiveCapture("cam", functools.partial(connect_stream, url, "cam"), patience=QUICK)


def frames_until(capture: LiveCapture, condition: Callable[[Frame], bool]) -> list[Frame]:
    """What comes, up to a frame that satisfies ``condition``."""
    deadline = time.monotonic() + LONG
    frames: list[Frame] = []
    while not frames or not condition(frames[-1]):
        assert time.monotonic() < deadline, f"in vain, after {len(frames)} frames, {capture.counters}"
        if frame := capture.take():
            frames.append(frame)
        else:
            capture.wait(0.05)
    return frames


def reconnects_of_frozen_and_killed(server: Server) -> int:
    """Frozen, killed, and started with another size: each time stale frames, then fresh ones again."""
    server.start()
    with capture_of(server.url) as capture:
        first = frames_until(capture, lambda frame: frame.index >= 5)
        assert {frame.size for frame in first} == {(216, 384)}
        server.signal(signal.SIGSTOP)
        silent = frames_until(capture, lambda frame: frame.stale)
        assert silent[-1].image.any(), "the last image, not a black one"
        server.kill()
        server.start("320x240")
        after = frames_until(capture, lambda frame: not frame.stale and frame.size == (240, 320))
        assert after[-1].index > silent[-1].index
        assert after[-1].time > silent[-1].time
        server.kill()
        frames_until(capture, lambda frame: frame.stale)
        server.start("320x240")
        frames_until(capture, lambda frame: not frame.stale)
        assert capture.counters.stale_seconds > 0
        news = capture.news()
        assert sum(": lost after " in line for line in news) == 2
        assert sum("back after" in line for line in news) >= 2  # and once more if the server was slow to begin
        return capture.counters.reconnects


def test_rtsp(rtsp: Server) -> None:
    assert reconnects_of_frozen_and_killed(rtsp) == 2


def test_mjpeg_over_http(mjpeg: Server) -> None:
    assert reconnects_of_frozen_and_killed(mjpeg) == 2


def test_a_frozen_server_that_thaws_in_time_is_no_loss(rtsp: Server) -> None:
    rtsp.start()
    with capture_of(rtsp.url) as capture:
        frames_until(capture, lambda frame: frame.index >= 5)
        rtsp.signal(signal.SIGSTOP)
        frames_until(capture, lambda frame: frame.stale)
        rtsp.signal(signal.SIGCONT)
        frames_until(capture, lambda frame: not frame.stale)
        assert capture.counters.reconnects == 0


def test_closing_does_not_wait_for_a_frozen_server(rtsp: Server) -> None:
    rtsp.start()
    with capture_of(rtsp.url) as capture:
        frames_until(capture, lambda frame: frame.index >= 2)
        rtsp.signal(signal.SIGSTOP)
        time.sleep(0.2)
        start = time.monotonic()
    assert time.monotonic() - start < live.JOIN_SECONDS + QUICK.read_timeout / 2


def test_hls(clip: Path, tmp_path: Path) -> None:
    """Segments of two seconds come at once; their frames come one by one, in time."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    command = [program("ffmpeg"), "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-an"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-vf", "scale=320:180"]
    command += ["-f", "hls", "-hls_time", "1", "-hls_list_size", "4", str(tmp_path / "live.m3u8")]
    maker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + LONG
        while not (tmp_path / "live.m3u8").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        url = f"http://127.0.0.1:{service.server_port}/live.m3u8"
        (source,) = resolve_sources([url])
        assert source.kind == "stream"
        with capture_of(url) as capture:
            frames = frames_until(capture, lambda frame: frame.index >= 15)
            assert sum(frame.dropped for frame in frames) <= 9, "not only the last one of each segment"
            maker.kill()
            frames_until(capture, lambda frame: frame.stale)
    finally:
        maker.kill()
        maker.wait()
        service.shutdown()
        service.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_no_memory_or_files_are_lost_over_reconnects(mjpeg_that_drops: str) -> None:
    patience = Patience(first_pause=0.0, longest_pause=0.0)
    connect = functools.partial(connect_stream, mjpeg_that_drops, "cam")
    with LiveCapture("cam", connect, patience=patience) as capture:

        def after(reconnects: int) -> tuple[int, int]:
            deadline = time.monotonic() + LONG
            while capture.counters.reconnects < reconnects:
                assert time.monotonic() < deadline, f"only {capture.counters.reconnects} reconnects"
                capture.take()
                capture.news()
                capture.wait(0.05)
            gc.collect()
            return resident_kib(), len(list(Path("/proc/self/fd").iterdir()))

        memory, files = after(20)
        memory_later, files_later = after(60)
    assert files_later <= files + 3
    assert memory_later - memory < 12 * 1024, f"{memory} -> {memory_later} KiB"
    print(f"40 reconnects: {memory} -> {memory_later} KiB, {files} -> {files_later} files")


def resident_kib() -> int:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.fixture
def mjpeg_that_drops() -> Iterator[str]:
    """Three images for each connection, the last one incomplete."""
    import cv2
    import numpy as np

    data = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))[1].tobytes()
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            self.wfile.write((head + data + b"\r\n") * 2 + head + data[: len(data) // 2])

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_port}/live.mjpg"
    service.shutdown()
    service.server_close()
