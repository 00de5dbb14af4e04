"""``detect.py`` on sources that would wait for ever, or that hold more than memory: skipped or refused, with a line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.commands import Outcome, call
from tests.tiny_detector import RED, quarters
from tests.videos import write_video
from yolofpn.cli import detect as command
from yolofpn.data.images import MAX_FRAME_PIXELS
from yolofpn.sources import remote
from yolofpn.sources.live import capture as live
from yolofpn.sources.live import mjpeg
from yolofpn.sources.live import network_stream as stream
from yolofpn.sources.live.capture import Patience

pytestmark = [
    pytest.mark.usefixtures("in_own_folder"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pipes, sockets and signals as Linux has them"),
]
Detect: TypeAlias = Callable[..., Outcome]
Answer: TypeAlias = Callable[[socket.socket], None]


@pytest.fixture
def detect(weights: Path, capsys: pytest.CaptureFixture[str]) -> Detect:
    return lambda *words: call(
        command.main,
        capsys,
        *words,
        "--weights",
        weights,
        "--backend",
        "torch",
        "--output",
        "out",
        "--media",
        "none",
    )


def sources() -> list[str]:
    return [Path(json.loads(line)["source"]).name for line in Path("out/detections.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["pipe.png", "pipe.jpg", "pipe.mp4", "pipe.gif"])
def test_a_pipe_in_a_folder(name: str, detect: Detect, good_image: Path) -> None:
    os.mkfifo(name)
    outcome = detect(".")
    assert outcome.code == 1
    assert name in outcome.err
    assert "pipe" in outcome.err
    assert sources() == ["good.png"]


@pytest.mark.parametrize("name", ["pipe", "pipe.txt", "pipe.png"])
def test_a_pipe_as_a_source(name: str, detect: Detect) -> None:
    os.mkfifo(name)
    outcome = detect(name)
    assert outcome.code == 2
    assert "a pipe" in outcome.err


def test_a_socket_and_a_device(detect: Detect) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        assert "a socket" in detect("socket.png").err
    assert "by number" in detect("/dev/null").err


def test_folders_within_each_other(detect: Detect, good_image: Path) -> None:
    """A hundred of them; the images above are found."""
    here = Path.cwd()
    for _ in range(100):
        Path("d").mkdir()
        os.chdir("d")
    Path("deep.png").write_bytes(good_image.read_bytes())
    os.chdir(here)
    outcome = detect(".")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "nested" in outcome.err
    assert sources() == ["good.png"]


def test_closed_standard_input(detect: Detect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where the shell says <&-
    outcome = detect("-")
    assert outcome.code == 2
    assert "standard input" in outcome.err


def large(path: Path) -> bytes:
    """A JPEG of 42 million pixels, all of one gray."""
    side = 6500
    assert side * side > MAX_FRAME_PIXELS
    data = cv2.imencode(".jpg", np.full((side, side), 90, np.uint8))[1].tobytes()
    path.write_bytes(data)
    return data


@pytest.mark.slow
def test_frames_larger_than_the_limit(detect: Detect, good_image: Path) -> None:
    """The video says so at once, or hides such a frame behind small ones."""
    data = large(Path("large.mjpeg"))
    small = cv2.imencode(".jpg", quarters(RED))[1].tobytes()
    Path("hidden.mjpeg").write_bytes(small * 3 + data + small)
    outcome = detect("large.mjpeg", "hidden.mjpeg", good_image)
    assert outcome.code == 1
    large_line, hidden_line = outcome.err.splitlines()
    assert "large.mjpeg" in large_line
    assert "hidden.mjpeg" in hidden_line
    assert sources() == ["hidden.mjpeg"] * 4 + ["good.png"]


def test_animations_count_as_videos(detect: Detect, good_image: Path) -> None:
    frames = [PIL.Image.new("L", (8, 8), shade) for shade in (0, 200)]
    frames[0].save("large.gif", save_all=True, append_images=frames[1:])
    content = bytearray(Path("large.gif").read_bytes())
    content[6:10] = struct.pack("<HH", 6500, 6500)  # the canvas that the header asks for
    Path("large.gif").write_bytes(content)
    outcome = detect("large.gif", good_image)
    assert outcome.code == 1
    assert "pixels" in outcome.err
    assert sources() == ["good.png"]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts servers at this computer that send what a function sends; gives their addresses."""
    listening: list[socket.socket] = []

    def accept(server: socket.socket, answer: Answer) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection, answer), daemon=True).start()

    def talk(connection: socket.socket, answer: Answer) -> None:
        with connection:
            connection.recv(65536)
            with contextlib.suppress(OSError):
                answer(connection)

    def start(answer: Answer) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)
        threading.Thread(target=accept, args=(server, answer), daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def trickle(connection: socket.socket) -> None:
    """A head, a byte at a time."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"a" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def go_on(connection: socket.socket) -> None:
    for _ in range(100_000):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)
        time.sleep(0.001)


def slow_image(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(b"a")
        time.sleep(0.05)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(remote, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(remote, "MAX_SECONDS", 0.6)
    patience = Patience(open_timeout=0.6, read_timeout=2.0, first_pause=0.01, longest_pause=0.02)
    monkeypatch.setattr(live, "PATIENCE", patience)


@pytest.mark.slow
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("answer", [trickle, go_on, slow_image])
@pytest.mark.parametrize("path", ["/dog.png", "/live.mjpg"])
def test_servers_that_never_come_to_the_point(
    answer: Answer, path: str, serve: Callable[[Answer], str], detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_SECONDS", "MAX_SECONDS"):
        monkeypatch.setattr(remote, name, 0.2)
    monkeypatch.setattr(live, "PATIENCE", replace(live.PATIENCE, open_timeout=0.2, read_timeout=0.5))
    start = time.monotonic()
    outcome = detect(serve(answer) + path)
    assert outcome.code == 2
    assert "127.0.0.1" in outcome.err
    assert time.monotonic() - start < 8


def camera(*frames: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")
        for number in range(2000):
            frame = frames[number % len(frames)]
            head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
            connection.sendall(head.encode() + frame + b"\r\n")
            time.sleep(0.02)

    return answer


@pytest.mark.usefixtures("short_waits")
def test_mjpeg_without_a_limit_of_bytes_is_refused(serve: Callable[[Answer], str], detect: Detect) -> None:
    """FFmpeg asks for addresses that are named like another format, and would take frames of any length."""
    outcome = detect(serve(camera(cv2.imencode(".jpg", quarters(RED))[1].tobytes())) + "/camera.ts")
    assert outcome.code == 2
    assert "/camera.ts" in outcome.err and "MJPEG" in outcome.err


@pytest.mark.usefixtures("short_waits")
def test_a_reason_that_a_server_gives_moves_no_cursor(serve: Callable[[Answer], str], detect: Detect) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 404 \x1b[2J\x9b31m gone\r\nContent-Length: 0\r\n\r\n")

    outcome = detect(serve(answer) + "/a.png")
    assert outcome.code == 2
    assert r"404 \u001b[2J\u009b31m gone" in outcome.err
    assert "\x1b" not in outcome.err and "\x9b" not in outcome.err


def test_class_names_and_cfgs_move_no_cursor(
    weights: Path, good_image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.names").write_text("red\x1b]0;title\x07\x9b2J\ngreen\n")
    flags = ("--weights", weights, "--backend", "torch", "--output", "out", "--media", "none")
    outcome = call(command.main, capsys, good_image, *flags, "--names", "own.names")
    assert outcome.code == 0, outcome.err
    assert r"red\u001b]0;title\u0007\u009b2J" in outcome.out
    Path("odd.cfg").write_text(weights.with_suffix(".cfg").read_text() + "\x1b[2Jodd=\x9b1\n")
    refused = call(command.main, capsys, good_image, *flags, "--darknet-cfg", "odd.cfg")
    printed = outcome.out + outcome.err + refused.out + refused.err
    assert r"\u001b[2J" in refused.out + refused.err
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(printed)


def jpeg_with_exif() -> bytes:
    exif = PIL.Image.Exif()
    exif[271] = "a camera"
    PIL.Image.fromarray(quarters(RED)[:, :, ::-1]).save("exif.jpg", exif=exif)
    return Path("exif.jpg").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("short_waits")
def test_cameras_beside_one_that_fails(
    serve: Callable[[Answer], str], detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sends EXIF in its frames, one frames that are too large, one changes their size; a healthy one is beside."""
    monkeypatch.setattr(stream, "MOST_FAILURES", 5)
    good = cv2.imencode(".jpg", quarters(RED))[1].tobytes()
    other = cv2.imencode(".jpg", quarters(RED, height=64, width=96))[1].tobytes()
    exif = jpeg_with_exif()
    too_large = camera(large(Path("large.jpg")))
    attempts: list[float] = []

    def count(connection: socket.socket) -> None:
        attempts.append(time.monotonic())
        too_large(connection)

    addresses = [
        serve(camera(good)) + "/good.mjpg",
        serve(camera(exif)) + "/exif.mjpg",
        serve(count) + "/large.mjpg",
        serve(camera(good, other)) + "/changing.mjpg",
    ]

    def user() -> None:
        lines = Path("out/detections.jsonl")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            text = lines.read_text() if lines.exists() else ""
            # The first request asks what the address is; after three attempts at the stream it has failed.
            if len(attempts) > 4 and all(text.count(f"{name}.mjpg") >= 5 for name in ("good", "exif", "changing")):
                break
            time.sleep(0.1)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    ended = threading.Event()
    person = threading.Thread(target=user)
    person.start()
    outcome = detect(*addresses)
    ended.set()
    person.join()
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "large.mjpg" in outcome.err
    assert {"good.mjpg", "exif.mjpg", "changing.mjpg"} == set(sources())


@pytest.mark.usefixtures("short_waits")
def test_a_camera_whose_frame_never_ends(
    serve: Callable[[Answer], str], detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It announces one of 2 GB; the source fails at the limit."""
    monkeypatch.setattr(mjpeg, "MAX_BYTES", 2**20)
    sent: list[int] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n")
        connection.sendall(b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n")
        for _ in range(2000):
            connection.sendall(bytes(2**16))
            sent.append(2**16)

    outcome = detect(serve(answer) + "/live.mjpg")
    assert outcome.code == 2
    assert "MiB" in outcome.err
    assert sum(sent) < 64 * 2**20


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize(
    ("password", "hint"), [("pa#ss", "# as %23"), ("p@ss", "@ as %40"), ("a#b@c", "# as %23 and @ as %40")]
)
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_password_that_must_be_encoded(scheme: str, password: str, hint: str, detect: Detect) -> None:
    outcome = detect(f"{scheme}://admin:{password}@127.0.0.1:9/live.mjpg")
    assert outcome.code == 2
    assert hint in outcome.err
    assert password not in outcome.err


@pytest.mark.usefixtures("short_waits")
def test_an_encoded_password_is_no_reason(detect: Detect) -> None:
    assert "as %" not in detect("rtsp://admin:pa%23ss@127.0.0.1:9/live").err
    assert "as %" not in detect("http://127.0.0.1:9/a@2x.jpg").err


def test_a_video_whose_frames_cannot_all_be_decoded(detect: Detect) -> None:
    write_video(Path("clip.mkv"), [quarters(RED)] * 3, codec="mjpeg")
    assert detect("clip.mkv").code == 0
