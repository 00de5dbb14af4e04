from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.demo.serving import Client, demo_server, look, png
from tests.tiny_detector import BLACK, GREEN, RED, quarters
from tests.videos import write_video

RED_AND_GREEN = png(quarters(RED, BLACK, BLACK, GREEN))


@pytest.fixture(scope="module")
def port(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("private")
    clip = write_video(folder / "street.mp4", [quarters(RED)] * 5 + [quarters(RED, RED)] * 5)
    (folder / "broken.mp4").write_bytes(b"no video")
    with demo_server([tiny], sources=[str(clip), str(folder / "broken.mp4")]) as port:
        yield port


def test_pictures_of_a_webcam_come_back_with_boxes(client: Client) -> None:
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


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"no picture", "not a picture"),
        (b"", "empty"),
        (RED_AND_GREEN[:100], "damaged"),
        (png(np.zeros((2001, 2000, 3), np.uint8)), "usual size"),
        ("{", "reload the page"),
        ("[1]", "reload the page"),
        ('{"score": 2}', "score threshold"),
    ],
)
def test_bad_messages_are_answered_and_the_picture_goes_on(client: Client, message: bytes | str, expected: str) -> None:
    with client.live() as socket:
        socket.send(message)
        answer = socket.recv(timeout=10)
        assert isinstance(answer, bytes)
        assert expected in json.loads(answer[4:])["error"]
        assert look(socket, RED_AND_GREEN)[0]["detections"]


def test_too_large_a_message_ends_the_connection(client: Client) -> None:
    with client.live() as socket, pytest.raises(ConnectionClosed):
        socket.send(bytes(9 * 2**20))
        socket.recv(timeout=10)
    assert client.upload(RED_AND_GREEN).status == 200


def test_cameras_are_named_without_their_folders(client: Client) -> None:
    assert client.request("/api/info").json["cameras"] == ["street.mp4", "broken.mp4"]


def test_two_users_watch_a_video_of_the_server_again_and_again(client: Client) -> None:
    with client.live("?camera=0") as one, client.live("?camera=0") as other:
        seen: list[tuple[int, int]] = []
        start = time.monotonic()
        while time.monotonic() - start < 10 and not {(0, 1), (5, 2)} <= set(seen[5:]):
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


def test_a_camera_that_is_not_there_is_refused(client: Client) -> None:
    for number in ("2", "-1", "x"):
        with pytest.raises(Exception), client.live(f"?camera={number}") as socket:  # noqa: B017
            look(socket)


def test_one_user_cannot_open_any_number(client: Client) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        sockets = [stack.enter_context(client.live()) for _ in range(4)]
        for socket in sockets:
            look(socket, RED_AND_GREEN)
        with pytest.raises(Exception), client.live() as fifth:  # noqa: B017
            look(fifth, RED_AND_GREEN)
    time.sleep(0.3)
    with client.live() as socket:
        assert look(socket, RED_AND_GREEN)[0]["detections"]
