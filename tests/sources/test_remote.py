"""Addresses, against a server on this computer: images, videos, streams, faults, and secrets that stay secret."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.videos import noise, shades, write_video
from yolofpn.addresses import shown_url
from yolofpn.errors import InputError, UserError
from yolofpn.sources import remote
from yolofpn.sources.live import capture as live
from yolofpn.sources.live.capture import Patience, Shot
from yolofpn.sources.live.network_stream import connect_stream
from yolofpn.sources.resolve import Source, resolve_sources


def jpeg(shade: int) -> bytes:
    return cv2.imencode(".jpg", np.full((6, 8, 3), shade, np.uint8))[1].tobytes()


def large_jpeg(shade: int) -> bytes:
    """With enough rows that a half of it would decode to a half image."""
    image = np.full((200, 300, 3), shade, np.uint8)
    image[:, ::2] += 8
    return cv2.imencode(".jpg", image)[1].tobytes()


class Handler(BaseHTTPRequestHandler):
    """Serves ``files`` (path -> content type and content) and paths that behave badly."""

    files: ClassVar[dict[str, tuple[str, bytes]]] = {}
    stopping: ClassVar[Event] = Event()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/locked/"):
            if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"admin:s3cret").decode():
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path = path.removeprefix("/locked")
        if path == "/silent":
            self.stopping.wait(20)
        elif path in ("/mjpeg", "/stalling", "/torn"):
            self._stream(path)
        elif path in self.files:
            self._file(*self.files[path])
        else:
            self.send_error(404)

    def _file(self, content_type: str, content: bytes) -> None:
        self.send_response(200)
        if content_type:
            self.send_header("Content-Type", content_type)
        cut = self.path.endswith("?cut")
        if not self.path.endswith("?endless"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def _stream(self, path: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for shade in range(10, 130, 10):
                part = large_jpeg(130 - shade) if path == "/torn" else jpeg(shade)
                size = "" if self.path.endswith("?unsized") else f"Content-Length: {len(part)}\r\n"
                head = f"--frame\r\nContent-Type: image/jpeg\r\n{size}\r\n"
                torn = path == "/torn" and shade == 120
                self.wfile.write(head.encode() + (part[: len(part) // 2] if torn else part + b"\r\n"))
            if path == "/stalling":
                self.stopping.wait(20)
        except OSError:
            pass


@pytest.fixture(scope="module")
def server(tiny_video: Path) -> Iterator[str]:
    Handler.files = {
        "/dog.jpg": ("image/jpeg", jpeg(50)),
        "/snapshot": ("image/jpeg", jpeg(60)),
        "/raw/dog.jpg": ("application/octet-stream", jpeg(70)),
        "/untyped.jpg": ("", jpeg(80)),
        "/broken.jpg": ("image/jpeg", b"not an image"),
        "/page": ("text/html; charset=utf-8", b"<html>"),
        "/clip.mp4": ("video/mp4", tiny_video.read_bytes()),
        "/raw/clip.mp4": ("application/octet-stream", tiny_video.read_bytes()),
        "/moving.gif": ("image/gif", animation()),
        "/live.m3u8": ("application/vnd.apple.mpegurl", b"#EXTM3U\n"),
    }
    Handler.stopping.clear()
    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.daemon_threads = True
    Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_port}"
    Handler.stopping.set()
    service.shutdown()
    service.server_close()


def animation() -> bytes:
    pages = [PIL.Image.new("L", (4, 4), shade) for shade in (0, 255)]
    stream = io.BytesIO()
    pages[0].save(stream, "GIF", save_all=True, append_images=pages[1:], duration=100)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE", Patience(attempts=1))


def only(url: str) -> Source:
    (source,) = resolve_sources([url])
    return source


@pytest.mark.parametrize(
    ("path", "shade", "relative"),
    [
        ("/dog.jpg", 50, "dog.jpg"),
        ("/raw/dog.jpg", 70, "dog.jpg"),
        ("/untyped.jpg", 80, "untyped.jpg"),
        ("/dog.jpg?endless", 50, "dog.jpg"),
    ],
)
def test_image(server: str, path: str, shade: int, relative: str) -> None:
    source = only(server + path)
    assert (source.kind, source.path, source.frame_count) == ("image", None, 1)
    assert source.relative_path == Path(relative)
    (frame,) = source.frames()
    assert frame.source == source.name == server + path
    assert np.abs(frame.image.astype(int) - shade).max() <= 1


def test_image_without_suffix_is_named_by_host_and_path(server: str) -> None:
    source = only(server + "/snapshot")
    assert source.kind == "image"
    assert source.relative_path == Path(
        server.removeprefix("http://").replace(".", "-").replace(":", "_") + "-snapshot"
    )


def test_video_with_sizes_and_times(server: str) -> None:
    for path in ("/clip.mp4", "/raw/clip.mp4"):
        source = only(server + path)
        assert (source.kind, source.path, source.frame_count, source.fps) == ("video", None, 12, 10.0)
        frames = list(source.frames())
        assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(12)])
        assert np.abs(frames[3].image.astype(int) - shades(12)[3]).max() <= 6


@pytest.mark.slow
def test_video_whose_index_is_at_its_end_needs_a_server_that_gives_parts(server: str, tmp_path: Path) -> None:
    content = write_video(tmp_path / "late.mp4", noise(40)).read_bytes()
    assert content.index(b"moov") > len(content) / 2 > 2**17  # more than is kept of what was read
    Handler.files["/late.mp4"] = ("video/mp4", content)
    with pytest.raises(InputError, match=r"/late\.mp4: no frame"):
        list(only(server + "/late.mp4").frames())


def test_animation(server: str) -> None:
    source = only(server + "/moving.gif")
    assert source.kind == "video"
    assert [(frame.index, frame.time) for frame in source.frames()] == [(0, 0.0), (1, 0.1)]


def test_playlist_is_a_stream(server: str) -> None:
    assert only(server + "/live.m3u8").kind == "stream"


def connect(url: str, patience: Patience | None = None) -> Iterator[Shot]:
    return connect_stream(url, shown_url(url), patience or Patience())


def test_stream(server: str) -> None:
    images = []
    with pytest.raises(InputError, match="lost after 12 frames"):
        for shot in connect(server + "/mjpeg"):
            images.append(shot())  # noqa: PERF401 keeps what came before the error
    assert [int(image[0, 0, 0]) for image in images] == pytest.approx(range(10, 130, 10), abs=3)


def test_stream_as_a_source(server: str) -> None:
    source = only(server + "/mjpeg")
    assert source.kind == "stream"
    frame = next(source.frames())
    assert frame.source == source.name
    assert (frame.time >= 0, frame.index + 1) == (True, frame.dropped + 1)
    assert frame.clock is not None
    assert abs(datetime.now(UTC) - frame.clock) < timedelta(minutes=1)


@pytest.mark.slow
def test_stream_that_falls_silent(server: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match="frames"):
        for shot in connect(server + "/stalling", Patience(read_timeout=1.0)):
            assert shot().shape == (6, 8, 3)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("query", ["", "?unsized"])
def test_an_image_cut_in_the_middle_of_a_stream_is_left_out(server: str, query: str) -> None:
    images = []
    with pytest.raises(InputError, match="after"):
        for shot in connect(server + "/torn" + query):
            images.append(shot())  # noqa: PERF401 keeps what came before the error
    assert len(images) >= 11
    for image in images:
        assert image.std() < 20, "no half image, whose rest would be gray"


@pytest.mark.parametrize("suffix", [".m3u8", ".mjpg", ".mjpeg", ".cgi", ".mpd"])
def test_an_address_like_those_of_streams_may_answer_later(server: str, suffix: str) -> None:
    assert only(f"http://127.0.0.1:9/live{suffix}").kind == "stream"
    with pytest.raises(InputError, match="Connection refused"):
        resolve_sources(["http://127.0.0.1:9/live"])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing.jpg", r"missing\.jpg: the server answers 404 Not Found; check the address"),
        ("/page", "a web page, not an image or video; give the address of the file itself"),
        ("/dog.jpg?cut", r"cut off after \d+ of \d+ bytes|no answer \(IncompleteRead\)"),
    ],
)
def test_refused_addresses(server: str, path: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_sources([server + path])


def test_damaged_image_fails_when_read(server: str) -> None:
    source = only(server + "/broken.jpg")
    with pytest.raises(InputError, match="broken"):
        next(source.frames())


@pytest.mark.slow
def test_server_that_does_not_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "HEAD_SECONDS", 0.5)
    with pytest.raises(InputError, match="address"):
        resolve_sources([server + "/silent"])


def test_no_server() -> None:
    with pytest.raises(InputError, match="Connection"):
        resolve_sources(["http://127.0.0.1:9/dog.jpg"])
    with pytest.raises(InputError, match="Connection"):
        next(only("rtsp://127.0.0.1:9/live").frames())


def test_image_beyond_the_limits(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="0 MiB"):
        resolve_sources([server + "/dog.jpg"])
    monkeypatch.setattr(remote, "MAX_BYTES", 2**20)
    monkeypatch.setattr(remote, "MAX_SECONDS", -1.0)
    with pytest.raises(InputError, match="longer"):
        resolve_sources([server + "/dog.jpg"])


def test_failed_addresses_in_a_list_let_the_others_go_on(server: str) -> None:
    sources = list(resolve_sources([server + "/missing.jpg", server + "/dog.jpg"]))
    with pytest.raises(InputError, match="404"):
        next(sources[0].frames())
    assert len(list(sources[1].frames())) == 1


def test_user_and_password(server: str) -> None:
    address = server.replace("http://", "http://admin:s3cret@")
    for path, kind in (("/locked/dog.jpg", "image"), ("/locked/clip.mp4", "video"), ("/locked/mjpeg", "stream")):
        source = only(address + path)
        assert source.kind == kind
        frame = next(source.frames())
        for shown in (source.name, str(source.relative_path), repr(source), frame.source):
            assert "s3cret" not in shown
            assert "admin" not in shown
        assert source.name == server + path


@pytest.mark.parametrize(
    "attempt",
    [
        "http://admin:s3cret@127.0.0.1:9/dog.jpg",
        "rtsp://admin:s3cret@127.0.0.1:9/live",
        "http://admin:s3cret@127.0.0.1:port/dog.jpg",
        "rtsp://admin:s3/cret@127.0.0.1:9/live",
        "ftp://admin:s3cret@127.0.0.1/dog.jpg",
        "http://admin:s3cret@[127.0.0.1/dog.jpg",
    ],
)
def test_no_password_in_errors(attempt: str) -> None:
    with pytest.raises(UserError) as error:
        next(only(attempt).frames())
    shown = str(error.value) + repr(error.value.__cause__)
    assert "127.0.0.1" in shown
    assert not any(secret in shown for secret in ("admin", "s3", "cret"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/dog.jpg", "http://host/dog.jpg"),
        ("http://host:8080/dog.jpg?channel=1", "http://host:8080/dog.jpg?channel=1"),
        ("http://host/@user/dog.jpg", "http://host/@user/dog.jpg"),
        ("rtsp://user@host/live", "rtsp://host/live"),
        ("rtsp://user:p%40ss@host:554/live", "rtsp://host:554/live"),
        ("rtsp://user:p@ss/w0rd@host/live", "rtsp://host/live"),
        ("rtsp://user:1/2#3?4@host/live", "rtsp://host/live"),
        ("http://cam/video.cgi?user=admin&pwd=1234&ch=2", "http://cam/video.cgi?user=***&pwd=***&ch=2"),
        ("http://cam/a.jpg?api_key=1&X-Signature=2&size=3", "http://cam/a.jpg?api_key=***&X-Signature=***&size=3"),
        ("rtsp://cam/user=admin_password=x_channel=1.sdp", "rtsp://cam/user=***"),
        ("http://cam/user=admin&password=x&channel=1.jpg", "http://cam/user=admin&password=***&channel=1.jpg"),
        ("s3://bucket/user_id=17/session=3/0.jpg?token=1", "s3://bucket/user_id=17/session=3/0.jpg?token=***"),
        ("http://h:8080/a@2x/1.jpg", "http://h:8080/a@2x/1.jpg"),
        ("http://user:8080/a@h:80/1.jpg@2x", "http://user:8080/a@h:80/1.jpg@2x"),
        ("http://user:word/a@h/1.jpg", "http://h/1.jpg"),
    ],
)
def test_shown_url(url: str, shown: str) -> None:
    assert shown_url(url) == shown
