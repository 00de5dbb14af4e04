"""What mixed requests leave behind: ``python -m tests.demo.mixed [--requests 5000] [--clients 12]``.

Images of several formats and sizes, bad and aborted uploads, videos, webcams, pages and addresses that are not there,
from several clients at once and on this computer alone; the server is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from websockets.exceptions import WebSocketException

from tests.demo.load import open_files, resident_mib, server_process
from tests.demo.serving import Client, look
from tests.videos import shades, write_video

KINDS = {"JPEG": (1600, 1200), "PNG": (320, 240), "WEBP": (1280, 720), "AVIF": (800, 600), "GIF": (500, 400)}
LARGE = 3000, 2000
SIZES = ("", "", "224", "320", "416")  # of the network's input
PAGES = ("/", "/api/info", "/api/weights/0", "/static/main.js", "/api/videos/none", "/none")


@dataclass
class Files:
    """What the clients send."""

    images: list[bytes]
    clip: bytes

    @classmethod
    def make(cls, *, large: bool) -> Files:
        """``large`` adds an image of 6 million pixels."""
        sizes = [*KINDS.items(), *([("JPEG", LARGE)] if large else [])]
        with tempfile.TemporaryDirectory() as folder:
            clip = write_video(Path(folder) / "clip.mp4", shades(25, 240, 320)).read_bytes()
        return cls([_image(kind, *size) for kind, size in sizes], clip)


@dataclass
class Tally:
    """How many requests are left, and what was done; shared by the clients."""

    left: int
    done: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, requests: int) -> bool:
        """Whether there is more to do."""
        with self.lock:
            self.done[kind] += requests
            self.left -= requests
            return self.left > 0


class Traffic:
    """One client that does something else each time, in an order that its seed fixes."""

    def __init__(self, port: int, seed: int, files: Files) -> None:
        self._random = random.Random(seed)
        self._port = port
        self._files = files
        self._client = Client(port)
        self._client.request("/")
        self._kinds: dict[Callable[[], int], int] = {
            self.image: 30,
            self.bad: 12,
            self.aborted: 10,
            self.video: 3,
            self.page: 34,
            self.live: 6,
            self.fresh: 5,
        }

    def run(self, tally: Tally) -> None:
        """Until all requests of all clients are made."""
        more = True
        while more:
            kind = self._random.choices(list(self._kinds), list(self._kinds.values()))[0]
            try:
                more = tally.add(kind.__name__, kind())
            except (OSError, WebSocketException) as error:
                more = tally.add(type(error).__name__, 1)

    def image(self) -> int:
        self._client.upload(self._random.choice(self._files.images), size=self._random.choice(SIZES))
        return 1

    def bad(self) -> int:
        """Cut images and videos, no images, and settings that are impossible."""
        image = self._random.choice(self._files.images)
        data, size = self._random.choice(
            [(image[: len(image) // 2], ""), (b"no image " * 99, ""), (image, "77"), (self._files.clip[:2000], "")]
        )
        self._client.upload(data, size=size)
        return 1

    def aborted(self) -> int:
        data = self._random.choice(self._files.images)
        head = f"POST /api/upload HTTP/1.1\r\nHost: localhost\r\nCookie: {self._client.cookie}\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode())
            connection.sendall(data[: self._random.randrange(len(data))])
        return 1

    def video(self) -> int:
        """Followed to its end, or left alone after some questions."""
        answer = self._client.upload(self._files.clip, "clip.mp4").json
        requests = 1
        while "video" in answer and self._random.random() < 0.9:
            time.sleep(0.1)
            path = f"/api/videos/{answer['video']['key']}"
            requests += 1
            if self._client.request(path).json.get("state") not in ("waiting", "running"):
                self._client.request(f"{path}/annotated.mp4")
                return requests + 1
        return requests

    def page(self) -> int:
        self._client.request(self._random.choice(PAGES))
        return 1

    def live(self) -> int:
        with self._client.live() as websocket:
            websocket.send('{"classes": ""}')
            for _ in range(4):
                look(websocket, self._files.images[0])
        return 5

    def fresh(self) -> int:
        """A new browser."""
        self._client = Client(self._port)
        self._client.request("/")
        return 1


def send_mixed(port: int, files: Files, requests: int, *, clients: int, seed: int) -> Counter[str]:
    """Requests by kind, and errors of connections by name."""
    tally = Tally(requests)
    traffic = [Traffic(port, 1000 * seed + number, files) for number in range(clients)]
    threads = [threading.Thread(target=each.run, args=(tally,)) for each in traffic]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally.done


def thread_count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _image(kind: str, width: int, height: int) -> bytes:
    small = np.random.default_rng(0).integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(small).resize((width, height)).save(file, kind)
    return file.getvalue()


def main() -> None:
    """Print memory and threads as the requests come, and a minute later."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--every", type=int, default=500)
    arguments = parser.parse_args()
    files = Files.make(large=True)
    total: Counter[str] = Counter()
    start = time.monotonic()
    with server_process("--weights", arguments.weights) as (port, pid), contextlib.suppress(KeyboardInterrupt):

        def tell() -> None:
            used = f"{resident_mib(pid):.0f} MiB, {thread_count(pid)} threads, {open_files(pid)} open files"
            print(f"{time.monotonic() - start:5.0f} s, {total.total():5d} requests: {used}", flush=True)

        tell()
        while total.total() < arguments.requests:
            seed = total.total()
            total += send_mixed(port, files, arguments.every, clients=arguments.clients, seed=seed)
            tell()
        time.sleep(60)
        tell()
        print(dict(total))


if __name__ == "__main__":
    main()
