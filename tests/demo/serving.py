"""A demo server in a thread, and a browser's requests without a browser."""

from __future__ import annotations

import json
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import uvicorn
from starlette.types import ASGIApp
from websockets.sync.client import ClientConnection, connect

from yolofpn.demo.access import AuthMiddleware
from yolofpn.demo.app import Page
from yolofpn.demo.cameras import open_cameras
from yolofpn.demo.connections import Network
from yolofpn.demo.limits import ServerLimits
from yolofpn.demo.model_store import ModelStore
from yolofpn.demo.serve import listen, server_config
from yolofpn.structures import Image


@dataclass
class Answer:
    """What the server said."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """One browser: it keeps its cookie."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, path: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data)
        for name, value in {"Cookie": self.cookie, **self.headers, **(headers or {})}.items():
            request.add_header(name, value)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=180) as response:
                answer = Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            answer = Answer(error.code, error.read(), dict(error.headers))
        if cookie := answer.headers.get("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        return answer

    def upload(self, data: bytes, name: str = "image.png", **settings: str) -> Answer:
        return self.request("/api/upload?" + urllib.parse.urlencode({"name": name, **settings}), data)

    def video(self, data: bytes, name: str = "clip.mp4") -> dict[str, Any]:
        """Send a video, and wait until it is done."""
        status: dict[str, Any] = self.upload(data, name).json["video"]
        deadline = time.monotonic() + 180
        while status["state"] in ("waiting", "running") and time.monotonic() < deadline:
            time.sleep(0.05)
            status = self.request(f"/api/videos/{status['key']}").json
        return status

    @contextmanager
    def live(self, query: str = "", **headers: str) -> Iterator[ClientConnection]:
        with connect(
            f"ws://127.0.0.1:{self.port}/api/live{query}",
            additional_headers={"Cookie": self.cookie, **headers},
            ping_interval=None,  # browsers send no pings
        ) as socket:
            yield socket


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def look(socket: ClientConnection, data: bytes = b"") -> tuple[dict[str, Any], bytes]:
    """One image there, one answer back: the JSON and the JPEG."""
    socket.send(data)
    answer = socket.recv(timeout=120)
    assert isinstance(answer, bytes)
    (length,) = struct.unpack(">I", answer[:4])
    return json.loads(answer[4 : 4 + length]), answer[4 + length :]


def png(image: Image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@contextmanager
def demo_server(
    weights: Sequence[str | Path],
    *,
    sources: Sequence[str] = (),
    limits: ServerLimits | None = None,
    password: str | None = None,
    proxies: Sequence[Network] = (),
    tls: tuple[Path, Path] | None = None,
    runs: Path = Path("no runs"),
) -> Iterator[int]:
    """The port of a server of its own; ``tls`` are certificate and key of one that speaks https."""
    page = Page(ModelStore([str(path) for path in weights], runs=runs, device="cpu"), open_cameras(sources), limits)
    with app_server(page.app(), limits=limits, password=password, proxies=proxies, tls=tls) as port:
        yield port


@contextmanager
def app_server(
    page: ASGIApp,
    *,
    limits: ServerLimits | None = None,
    password: str | None = None,
    proxies: Sequence[Network] = (),
    tls: tuple[Path, Path] | None = None,
) -> Iterator[int]:
    """As ``demo_server``, with another page."""
    with listen("127.0.0.1", 0, proxies=proxies, limits=limits) as listener:
        port = listener.getsockname()[1]
        app = AuthMiddleware(
            page,
            password=password,
            local_only=True,
            secure=tls is not None,
            port=port,
            behind_proxy=bool(proxies),
            limits=limits,
        )
        server = uvicorn.Server(server_config(app, *(tls or ()), proxies=proxies, limits=limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()
