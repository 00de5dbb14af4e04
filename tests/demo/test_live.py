from __future__ import annotations

import json
import os
import socket as sockets
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.demo.serving import Client, demo_server, look, png
from tests.inference.live_fakes import until
from tests.tiny_detector import BLACK, GREEN, RED, quarters
from tests.tracking.toy import Nearest
from tests.videos import write_video
from yolofpn import tracking
from yolofpn.demo import live
from yolofpn.demo.answers import FAULT, detect
from yolofpn.demo.cameras import Camera, open_cameras
from yolofpn.demo.limits import ConnectionLimits, ServerLimits, WorkLimits
from yolofpn.errors import InputError, UserError

RED_AND_GREEN = png(quarters(RED, BLACK, BLACK, GREEN))


@pytest.fixture(scope="module")
def port(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("private")
    clip = write_video(folder / "street.mp4", [quarters(RED)] * 5 + [quarters(RED, RED)] * 5)
    (folder / "broken.mp4").write_bytes(b"no video")
    with demo_server([tiny], sources=[str(clip), str(folder / "broken.mp4")]) as port:
        yield port


def test_images_of_a_webcam_come_back_with_boxes(client: Client) -> None:
    with client.live() as socket:
        for index in range(3):
            found, jpeg = look(socket, RED_AND_GREEN)
            assert (found["frame"], found["source"], found["stale"]) == (index, "webcam", False)
            assert {detection["name"] for detection in found["detections"]} == {"red", "potted plant"}
            drawn = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert drawn is not None and drawn.shape == (128, 192, 3)


def test_settings_hold_until_they_change(client: Client) -> None:
    with client.live() as socket:
        socket.send(json.dumps({"classes": "red", "size": None}))
        for _ in range(2):
            assert [found["name"] for found in look(socket, RED_AND_GREEN)[0]["detections"]] == ["red"]
        socket.send(json.dumps({"size": 128}))
        assert len(look(socket, RED_AND_GREEN)[0]["detections"]) == 8


def test_objects_are_tracked_if_wanted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", (Nearest,))
    with client.live() as socket:
        assert "track_id" not in look(socket, RED_AND_GREEN)[0]["detections"][0]
        socket.send(json.dumps({"track": "1", "classes": "red"}))
        plain, _ = look(socket, RED_AND_GREEN)
        assert [found["track_id"] for found in plain["detections"]] == [1]
        assert [found["track_id"] for found in look(socket, RED_AND_GREEN)[0]["detections"]] == [1]
        socket.send(json.dumps({"track": ""}))
        assert "track_id" not in look(socket, RED_AND_GREEN)[0]["detections"][0]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"no image", "not a JPEG"),
        (b"", "empty"),
        (RED_AND_GREEN[:100], "damaged"),
        (png(np.zeros((2001, 2000, 3), np.uint8)), "2000x2001"),
        ("{", "reload the page"),
        ("[1]", "reload the page"),
        ('{"score": 2}', "score threshold"),
    ],
)
def test_bad_messages_are_answered_and_the_image_goes_on(client: Client, message: bytes | str, expected: str) -> None:
    with client.live() as socket:
        socket.send(message)
        answer = socket.recv(timeout=60)
        assert isinstance(answer, bytes)
        assert expected in json.loads(answer[4:])["error"]
        assert look(socket, RED_AND_GREEN)[0]["detections"]


def test_too_large_a_message_ends_the_connection(client: Client) -> None:
    with client.live() as socket, pytest.raises(ConnectionClosed):
        socket.send(bytes(9 * 2**20))
        socket.recv(timeout=60)
    assert client.upload(RED_AND_GREEN).status == 200


def test_cameras_are_named_without_their_folders(client: Client) -> None:
    assert client.request("/api/info").json["cameras"] == ["street.mp4", "broken.mp4"]


@pytest.mark.slow
def test_two_users_watch_a_video_of_the_server_again_and_again(client: Client) -> None:
    with client.live("?camera=0") as one, client.live("?camera=0") as other:
        seen: list[tuple[int, int]] = []
        start = time.monotonic()
        while time.monotonic() - start < 60 and not {(0, 1), (5, 2)} <= set(seen[5:]):
            for socket in (one, other):
                found, jpeg = look(socket)
                assert found["source"] == "street.mp4" and jpeg
                seen.append((found["frame"], len(found["detections"])))
        assert {(index, 1 + (index >= 5)) for index, _ in seen} == set(seen)
        assert max(index for index, _ in seen) >= 5


def test_a_camera_that_fails_says_why_without_its_folder(client: Client) -> None:
    with client.live("?camera=1") as socket:
        found, _ = look(socket)
        assert "broken.mp4" in found["error"]
        assert "private" not in found["error"]


def test_a_source_that_is_not_there_is_told_before_the_page_opens(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)])
    with pytest.raises(UserError, match=r"missing\.mp4: no such file"):
        open_cameras([str(clip), str(tmp_path / "missing.mp4")])


@pytest.mark.slow
def test_a_camera_begins_anew_for_whoever_comes_later(client: Client) -> None:
    for _ in range(2):
        with client.live("?camera=0") as socket:
            assert "error" not in look(socket)[0]
        time.sleep(0.3)  # until nobody watches


@pytest.mark.slow
def test_a_camera_lives_on_after_a_fault_in_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (camera,) = open_cameras([str(write_video(tmp_path / "clip.mp4", [quarters(RED)] * 3))])
    monkeypatch.setattr("yolofpn.demo.cameras._RETRY_SECONDS", 0.05)
    monkeypatch.setattr("yolofpn.demo.cameras._in_time", lambda source: 1 // 0)
    with camera.watch():
        with pytest.raises(InputError, match=FAULT):
            until(lambda: camera.newer(0))
        monkeypatch.undo()
        until(lambda: number_of(camera) >= 4)
        newest, first = camera.newer(1), camera.newer(0)
        assert newest is not None and newest[1].dropped == newest[0] - 2, "all between the first and this one"
        assert first is not None and first[1].dropped == 0, "who has seen none has missed none"


def number_of(camera: Camera) -> int:
    try:
        return (camera.newer(0) or (0,))[0]
    except InputError:
        return 0


@pytest.mark.slow
def test_a_silent_camera_is_told(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_video(tmp_path / "street.mp4", [quarters(RED)] * 5)
    limits = ServerLimits(work=WorkLimits(camera_seconds=1.0))
    newer = Camera.newer
    with demo_server([tiny], sources=[str(clip)], limits=limits) as port, Client(port).live("?camera=0") as socket:
        monkeypatch.setattr(Camera, "newer", lambda *_: None)
        assert look(socket)[0] == {"error": "street.mp4: no image for 1 s"}
        monkeypatch.setattr(Camera, "newer", newer)
        assert look(socket)[0]["detections"]


def test_a_camera_that_is_not_there_is_refused(client: Client) -> None:
    for number in ("2", "-1", "x"):
        with pytest.raises(InvalidStatus), client.live(f"?camera={number}") as socket:
            look(socket)


def test_one_user_cannot_open_any_number(client: Client) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(client.live()) for _ in range(4)]
        for socket in sockets:
            look(socket, RED_AND_GREEN)
        with client.live() as fifth, pytest.raises(ConnectionClosed) as closed:
            look(fifth, RED_AND_GREEN)
        assert closed.value.rcvd is not None and closed.value.rcvd.reason.startswith("you have 4 animations")

    def is_let_in() -> bool:
        with client.live() as socket:
            try:
                return bool(look(socket, RED_AND_GREEN)[0]["detections"])
            except ConnectionClosed:
                return False

    until(is_let_in)


def test_a_fault_in_the_program_is_told_and_the_image_goes_on(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with client.live() as socket:
        monkeypatch.setattr(live, "detect", fail)
        assert look(socket, RED_AND_GREEN)[0] == {"error": FAULT}
        assert "out of memory" in caplog.text
        monkeypatch.undo()
        assert look(socket, RED_AND_GREEN)[0]["detections"]


@pytest.fixture
def pinging_port(request: pytest.FixtureRequest, tiny: Path) -> Iterator[int]:
    limits = ServerLimits(connection=ConnectionLimits(ping_seconds=0.05, pong_seconds=request.param))
    with demo_server([tiny], limits=limits) as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("pinging_port", [10.0], indirect=True)
def test_a_long_turn_does_not_end_the_connection(pinging_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings wait behind the image, so that the answers to pings cannot be read meanwhile."""

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return detect(*arguments)

    monkeypatch.setattr(live, "detect", slow)
    client = Client(pinging_port)
    with client.live() as socket:
        socket.send(RED_AND_GREEN)
        socket.send("{}")
        socket.send("{}")
        assert isinstance(socket.recv(timeout=60), bytes)
        assert look(socket, RED_AND_GREEN)[0]["detections"]
    limits = ServerLimits()
    assert limits.work.camera_seconds < limits.connection.pong_seconds / 2, "a silent camera is no vanished page"


@pytest.mark.slow
@pytest.mark.parametrize("pinging_port", [0.5], indirect=True)
def test_a_page_that_vanished_is_given_up(pinging_port: int) -> None:
    key = b64encode(os.urandom(16)).decode()
    request = (
        f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{pinging_port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    request += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with sockets.create_connection(("127.0.0.1", pinging_port), timeout=60) as page:
        page.sendall(request.encode())
        received = b""
        while block := page.recv(4096):
            received += block
    assert b" 101 " in received and b"keepalive ping timeout" in received


@pytest.mark.slow
def test_a_page_that_asks_for_nothing_is_closed(tiny: Path) -> None:
    limits = ServerLimits(connection=ConnectionLimits(viewer_idle_seconds=2.0))
    with demo_server([tiny], limits=limits) as port, Client(port).live() as socket:
        for _ in range(3):
            time.sleep(0.7)
            assert look(socket, RED_AND_GREEN)[0]["detections"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


def test_messages_of_settings_are_bounded_like_those_of_an_address(client: Client) -> None:
    with client.live() as socket:
        for text in ('{"size": "0000000099999"}', '{"size": 9e9}', "[" * 60_000, '{"classes": "' + "9" * 5000 + '"}'):
            socket.send(text)
            answer = socket.recv(timeout=60)
            assert isinstance(answer, bytes)
            assert json.loads(answer[4:])["error"] != FAULT
        assert look(socket, RED_AND_GREEN)[0]["detections"]
