from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.demo.serving import Client, demo_server, png
from tests.inference.live_fakes import until
from tests.tiny_detector import BLACK, GREEN, RED, quarters
from tests.videos import write_video
from yolofpn.demo.limits import ServerLimits, UploadLimits, WorkLimits
from yolofpn.demo.uploads import Upload
from yolofpn.fields import Depth
from yolofpn.structures import Frame

# 128 x 192 stretched to 64 x 64 makes four cells, each a quarter of the image.
RED_AND_GREEN = png(quarters(RED, BLACK, BLACK, GREEN))
LIMITS = ServerLimits(UploadLimits(image_bytes=100_000, video_bytes=200_000, image_pixels=100_000, video_seconds=10.0))


@pytest.fixture(scope="module")
def port(tiny: Path) -> Iterator[int]:
    with demo_server([tiny], limits=LIMITS) as port:
        yield port


def test_an_image_comes_back_with_its_boxes(client: Client) -> None:
    answer = client.upload(RED_AND_GREEN, "shapes.png").json
    found = answer["found"]
    assert (found["source"], found["width"], found["height"]) == ("shapes.png", 192, 128)
    boxes = {detection["name"]: detection["box"] for detection in found["detections"]}
    assert boxes == {"red": [0, 0, 96, 64], "potted plant": [96, 64, 192, 128]}
    kind, _, data = answer["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None and drawn.shape == (128, 192, 3)


def test_settings_count_for_the_request_that_brings_them(client: Client) -> None:
    only = client.upload(RED_AND_GREEN, classes="Potted-Plant").json["found"]["detections"]
    assert [detection["name"] for detection in only] == ["potted plant"]
    assert client.upload(RED_AND_GREEN, score="0.99995").json["found"]["detections"] == []
    assert len(client.upload(RED_AND_GREEN).json["found"]["detections"]) == 2
    cells = client.upload(RED_AND_GREEN, size="128").json["found"]["detections"]
    assert len(cells) == 8  # each quarter is 2 x 2 cells now


@pytest.mark.parametrize(
    ("data", "settings", "expected"),
    [
        (b"no image", {}, "not an image or video"),
        (b"", {}, "empty"),
        (RED_AND_GREEN[:200], {}, "damaged"),
        (png(np.zeros((400, 300, 3), np.uint8)), {}, "300x400"),
        (RED_AND_GREEN + bytes(100_000), {}, "larger than"),
        (RED_AND_GREEN, {"size": "65"}, "not a multiple of 32"),
        (RED_AND_GREEN, {"size": "many"}, "image size 'many'"),
        (RED_AND_GREEN, {"classes": "dragon"}, "dragon"),
        (RED_AND_GREEN, {"weights": "../../etc/passwd"}, "no longer available"),
    ],
)
def test_a_bad_upload_gets_one_clear_line(client: Client, data: bytes, settings: dict[str, str], expected: str) -> None:
    answer = client.upload(data, **settings)
    assert answer.status == 400
    assert expected in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert client.upload(RED_AND_GREEN).status == 200


def test_too_large_an_upload_is_refused_before_it_is_sent(client: Client) -> None:
    assert "larger than" in client.upload(bytes(200_001)).json["error"]


def test_a_video_comes_back_with_boxes_and_lines(client: Client, tmp_path: Path) -> None:
    frames = [quarters(*[RED] * count, *[BLACK] * (4 - count)) for count in range(4)]
    clip = write_video(tmp_path / "clip.mp4", frames)
    status = client.video(clip.read_bytes(), "../clip.mp4")
    assert (status["state"], status["done"], status["frames"]) == ("done", 4, 4)
    assert status["counts"]["red"] == 3
    lines = client.request(f"/api/videos/{status['key']}/detections.jsonl")
    assert 'filename="clip-detections.jsonl"' in lines.headers["content-disposition"]
    records = [json.loads(line) for line in lines.body.splitlines()]
    assert [len(record["detections"]) for record in records] == [0, 1, 2, 3]
    video = client.request(f"/api/videos/{status['key']}/annotated.mp4")
    (tmp_path / "annotated.mp4").write_bytes(video.body)
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        assert len(list(container.decode(video=0))) == 4
    part = client.request(f"/api/videos/{status['key']}/annotated.mp4", headers={"Range": "bytes=0-99"})
    assert (part.status, len(part.body)) == (206, 100)  # Safari plays nothing without


def test_a_damaged_video_keeps_what_could_be_read(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    clip = write_video(tmp_path / "clip.mp4", frames, flags={"movflags": "faststart"})
    data = clip.read_bytes()
    status = client.video(data[: len(data) // 2])
    assert status["state"] == "failed"
    assert "damaged or cut off" in status["message"]
    assert str(tmp_path) not in status["message"]
    assert 0 < status["done"] < 20
    assert status["video"]


def test_a_video_is_for_its_owner_alone(client: Client, port: int, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)])
    status = client.video(clip.read_bytes())
    stranger = Client(port)
    stranger.request("/")
    for path in ("", "/annotated.mp4", "/detections.jsonl"):
        assert stranger.request(f"/api/videos/{status['key']}{path}").status == 400
        assert client.request(f"/api/videos/{status['key']}{path}").status == 200
    assert client.request(f"/api/videos/{status['key']}/upload").status == 404


def test_a_second_video_takes_the_place_of_the_first(client: Client, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)]).read_bytes()
    first, second = client.video(clip), client.video(clip)
    assert client.request(f"/api/videos/{first['key']}").status == 400
    assert client.request(f"/api/videos/{second['key']}").status == 200


@pytest.mark.slow
def test_the_temporary_folder_is_emptied(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def files() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    with demo_server([tiny]) as port:
        client = Client(port)
        client.request("/")
        client.upload(RED_AND_GREEN)
        client.upload(b"no image")
        client.upload(RED_AND_GREEN, classes="dragon")
        assert files() == []
        clip = write_video(tmp_path.parent / "clip.mp4", [quarters(RED)] * 3)
        client.video(clip.read_bytes())
        assert {path.name for path in files()} == {"annotated.mp4", "detections.jsonl"}
    assert list(tmp_path.iterdir()) == []


def test_a_long_video_does_not_keep_others_waiting(client: Client, port: int, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [quarters(RED)] * 90)
    key = client.upload(clip.read_bytes()).json["video"]["key"]
    other = Client(port)
    other.request("/")
    for _ in range(3):
        assert other.upload(RED_AND_GREEN).status == 200
    assert client.request(f"/api/videos/{key}").json["state"] in ("waiting", "running")


def test_one_user_cannot_take_all_places(client: Client, port: int) -> None:
    open_uploads = []
    for _ in range(4):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/api/upload?name=slow.png")
        connection.putheader("Cookie", client.cookie)
        connection.putheader("Content-Length", str(len(RED_AND_GREEN)))
        connection.endheaders(RED_AND_GREEN[:10])
        open_uploads.append(connection)
    until(lambda: "at once" in client.upload(RED_AND_GREEN).json.get("error", ""))
    other = Client(port)
    other.request("/")
    assert other.upload(RED_AND_GREEN).status == 200
    for connection in open_uploads:
        connection.send(RED_AND_GREEN[10:])
        assert connection.getresponse().status == 200
        connection.close()
    assert client.upload(RED_AND_GREEN).status == 200


@pytest.mark.slow
def test_browsers_of_one_address_share_its_places(tiny: Path) -> None:
    limits = ServerLimits(work=WorkLimits(uploads_per_client=1, uploads_per_address=2, uploads=3))
    proxy = [ipaddress.ip_network("127.0.0.1")]
    with demo_server([tiny], limits=limits, proxies=proxy) as port:
        clients = [Client(port, headers={"X-Forwarded-For": f"192.0.2.{number // 3}"}) for number in range(6)]
        for client in clients:
            client.request("/")
        with contextlib.ExitStack() as stack:
            for client in clients[:2]:
                stack.enter_context(begun_upload(port, client))
            until(lambda: "your network address have 2" in clients[2].upload(RED_AND_GREEN).json.get("error", ""))
            with begun_upload(port, clients[3]):
                until(lambda: "all users together have 3" in clients[4].upload(RED_AND_GREEN).json.get("error", ""))
            until(lambda: clients[4].upload(RED_AND_GREEN).status == 200)
        until(lambda: clients[2].upload(RED_AND_GREEN).status == 200)


@contextlib.contextmanager
def begun_upload(port: int, client: Client) -> Iterator[None]:
    """One that is aborted in the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/api/upload?name=slow.png")
    for name, value in {"Cookie": client.cookie, "Content-Length": "1000", **client.headers}.items():
        connection.putheader(name, value)
    connection.endheaders(b"x")
    yield
    connection.close()


@pytest.mark.slow
def test_who_goes_away_while_waiting_is_not_answered(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, gate = threading.Event(), threading.Event()
    seen: list[str] = []

    def slow(self: Upload, depth: Depth) -> Frame:
        seen.append(self.name)
        began.set()
        gate.wait(60)
        return frame(self, depth)

    frame = Upload.frame
    monkeypatch.setattr(Upload, "frame", slow)
    with demo_server([tiny], limits=ServerLimits(work=WorkLimits(decoded_pixels=1))) as port:
        clients = [Client(port) for _ in range(3)]
        first = threading.Thread(target=clients[0].upload, args=(RED_AND_GREEN, "first"))
        first.start()
        began.wait(60)
        head = f"POST /api/upload?name=gone HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(RED_AND_GREEN)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(head.encode() + RED_AND_GREEN)
            time.sleep(0.5)
        time.sleep(0.5)
        gate.set()
        assert clients[2].upload(RED_AND_GREEN, "last").status == 200
        first.join()
    assert seen == ["first", "last"]


@pytest.mark.slow
def test_eight_users_at_once_each_get_their_own_answer(port: int) -> None:
    colours = [RED, GREEN]
    wrong: list[object] = []

    def use(number: int) -> None:
        client = Client(port)
        client.request("/")
        cells = [colours[number % 2]] * (1 + number % 4)
        for _ in range(3):
            answer = client.upload(png(quarters(*cells)), f"{number}.png").json["found"]
            names = [detection["name"] for detection in answer["detections"]]
            if answer["source"] != f"{number}.png" or names != [["red", "potted plant"][number % 2]] * len(cells):
                wrong.append(answer)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
