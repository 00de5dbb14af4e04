from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from yolofpn.darknet.download import (
    NAMED_WEIGHTS,
    FetchedWeights,
    NamedWeights,
    darknet53_convolutions,
    fetch_weights,
)
from yolofpn.errors import UserError
from yolofpn.files import cache_folder

CONTENT = np.random.default_rng(0).bytes(700_000)
WEIGHTS = NamedWeights("small.weights", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())

Answer = Callable[["Handler"], None]


class Site(ThreadingHTTPServer):
    """Answers the n-th request as the n-th answer says, the rest as the last one does; remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [whole]
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that gave up is part of these tests


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        number = len(self.server.asked)
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.answers[min(number, len(self.server.answers) - 1)](self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def ranged(handler: Handler, *, until: int | None = None) -> None:
    """Honour the range, but cut the connection after ``until`` bytes of the file."""
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    size = len(CONTENT)
    headers = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if asked else {}
    handler.reply(206 if asked else 200, CONTENT[start:until], length=size - start, **headers)


def whole(handler: Handler) -> None:
    handler.reply(200, CONTENT)


def cut_at(until: int) -> Answer:
    return lambda handler: ranged(handler, until=until)


def failing(status: int) -> Answer:
    return lambda handler: handler.reply(status, b"no")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("YOLOFPN_MIRROR", server.url)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fetch(weights: NamedWeights = WEIGHTS, *, timeout: float = 5.0, attempts: int = 3) -> FetchedWeights:
    return fetch_weights(weights, timeout=timeout, attempts=attempts, wait=0.0)


def test_download_once_then_from_the_cache(site: Site, cache: Path) -> None:
    fetched = fetch()
    assert fetched.path == cache / "small.weights"
    assert fetched.path.read_bytes() == CONTENT
    assert f"downloaded from {site.url}small.weights; size and sha256 checked" in fetched.note
    assert "found in the cache" in fetch().note
    assert site.asked == [("/files/small.weights", None)]
    assert not (cache / "small.weights.part").exists()


@pytest.mark.parametrize("slashes", ["", "///"])
def test_mirror_with_any_number_of_slashes(site: Site, monkeypatch: pytest.MonkeyPatch, slashes: str) -> None:
    monkeypatch.setenv("YOLOFPN_MIRROR", site.url.rstrip("/") + slashes)
    fetch()
    assert site.asked[0][0] == "/files/small.weights"


def test_cut_connections_are_resumed(site: Site) -> None:
    site.answers = [cut_at(300_001), cut_at(500_000), ranged]
    assert fetch().path.read_bytes() == CONTENT
    assert [asked for _, asked in site.asked] == [None, "bytes=300001-", "bytes=500000-"]


def test_a_later_call_resumes(site: Site, cache: Path) -> None:
    site.answers = [cut_at(300_000), failing(503)]
    with pytest.raises(UserError, match=r"HTTP 503 .*YOLOFPN_MIRROR"):
        fetch(attempts=2)
    assert (cache / "small.weights.part").read_bytes() == CONTENT[:300_000]
    assert not (cache / "small.weights").exists()
    site.answers = [ranged]
    assert fetch().path.read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=300000-"


def test_a_server_without_ranges_starts_over(site: Site) -> None:
    site.answers = [cut_at(300_000), whole]
    assert fetch().path.read_bytes() == CONTENT
    assert site.asked[1][1] == "bytes=300000-"


def test_a_range_that_was_not_asked_for_is_refused(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / "small.weights.part").write_bytes(CONTENT[:10])
    site.answers = [lambda handler: handler.reply(206, CONTENT[5:], Content_Range="bytes 5-699999/700000")]
    with pytest.raises(UserError, match=r"answered the range 10- with 'bytes5-"):
        fetch()
    assert (cache / "small.weights.part").read_bytes() == CONTENT[:10]


def test_a_whole_part_is_only_checked(cache: Path, site: Site) -> None:
    cache.mkdir()
    (cache / "small.weights.part").write_bytes(CONTENT)
    assert fetch().path.read_bytes() == CONTENT
    assert site.asked == []


def test_a_part_that_is_too_long_is_dropped(cache: Path, site: Site) -> None:
    cache.mkdir()
    (cache / "small.weights.part").write_bytes(CONTENT + b"more")
    assert fetch().path.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(site: Site, cache: Path) -> None:
    site.answers = [lambda handler: handler.reply(200, CONTENT[::-1])]
    with pytest.raises(UserError, match=r"has sha256 .* removed"):
        fetch()
    assert not (cache / "small.weights").exists()
    assert not (cache / "small.weights.part").exists()
    site.answers = [whole]
    assert fetch().path.read_bytes() == CONTENT


def test_wrong_size_is_refused_before_it_is_read(site: Site, cache: Path) -> None:
    site.answers = [lambda handler: handler.reply(200, b"<html>not found</html>")]
    with pytest.raises(UserError, match="22 bytes"):
        fetch()
    assert not (cache / "small.weights").exists()


def test_more_than_was_asked_for_is_not_taken(site: Site) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT + bytes(1_000_000))

    site.answers = [endless]
    assert fetch().path.read_bytes() == CONTENT


def test_missing_file_is_not_tried_again(site: Site) -> None:
    site.answers = [failing(404)]
    with pytest.raises(UserError, match="HTTP 404 Not Found") as error:
        fetch()
    assert len(site.asked) == 1
    assert "\n" not in str(error.value)


def test_server_error_is_tried_again(site: Site) -> None:
    site.answers = [failing(500), failing(500), whole]
    assert fetch().path.read_bytes() == CONTENT
    site.answers = [failing(500)]
    with pytest.raises(UserError, match="HTTP 500"):
        fetch(NamedWeights("other.weights", 3, WEIGHTS.sha256), attempts=2)
    assert len(site.asked) == 5


@pytest.mark.slow
def test_stalled_read_times_out_and_is_resumed(site: Site) -> None:
    released = threading.Event()

    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:200_000])
        handler.wfile.flush()
        released.wait(20)

    site.answers = [stall, ranged]
    try:
        assert fetch(timeout=0.3).path.read_bytes() == CONTENT
    finally:
        released.set()
    assert site.asked[1][1] == "bytes=200000-"


def test_redirect_keeps_the_range(site: Site, cache: Path) -> None:
    cache.mkdir()
    (cache / "small.weights.part").write_bytes(CONTENT[:10])
    site.answers = [lambda handler: handler.reply(302, b"", Location="/elsewhere/x"), ranged]
    assert fetch().path.read_bytes() == CONTENT
    assert site.asked == [("/files/small.weights", "bytes=10-"), ("/elsewhere/x", "bytes=10-")]


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("YOLOFPN_MIRROR", "http://127.0.0.1:9/")  # nothing listens on the discard port
    with pytest.raises(UserError) as error:
        fetch()
    message = str(error.value)
    assert "\n" not in message
    for part in ("small.weights cannot be downloaded", str(cache / "small.weights"), "YOLOFPN_MIRROR"):
        assert part in message


@pytest.mark.parametrize("mirror", ["ftp://host/", "folder/of/files", "https://user:secret@host/"])
def test_unusable_mirror(monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("YOLOFPN_MIRROR", mirror)
    with pytest.raises(UserError, match="YOLOFPN") as error:
        fetch()
    assert "secret" not in str(error.value)


def test_damaged_file_in_the_cache_is_named_not_removed(cache: Path, site: Site) -> None:
    cache.mkdir()
    path = cache / "small.weights"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="699,999 bytes"):
        fetch()
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(UserError, match="has sha256"):
        fetch()
    assert path.exists()
    assert site.asked == []


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="YOLOFPN"):
        fetch()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(cache: Path, site: Site) -> None:
    cache.mkdir()
    (cache / "small.weights.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="space"):
        fetch()


@pytest.mark.slow
def test_two_at_once_download_once(site: Site, cache: Path) -> None:
    def slowly(handler: Handler) -> None:
        time.sleep(0.3)
        whole(handler)

    site.answers = [slowly]
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(fetch().path.read_bytes())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 3
    assert len(site.asked) == 1


def test_cache_folder_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLOFPN_CACHE")
    assert "yolofpn" in str(cache_folder())


def test_darknet53_has_as_many_numbers_as_the_published_backbone() -> None:
    shapes = darknet53_convolutions()
    numbers = sum((kernel**2 * in_channels + 4) * out_channels for in_channels, out_channels, kernel in shapes)
    assert len(shapes) == 52
    assert 20 + 4 * numbers == NAMED_WEIGHTS["darknet53.conv.74"].size == 162_482_580


def backbone(minor: int = 2) -> bytes:
    """Two convolutions, 3 -> 2 channels 3x3 and 2 -> 4 channels 1x1, as Darknet writes them."""
    header = np.array([0, minor, 0, 7, 0][: 5 if minor == 2 else 4], "<i4").tobytes()
    rng = np.random.default_rng(1)
    layers = [(np.abs if row == 3 else np.copy)(rng.normal(size=n)) for n in (2, 4) for row in range(4)]
    layers[4:4] = [rng.normal(size=2 * 27)]
    return header + np.concatenate([*layers, rng.normal(size=8)]).astype("<f4").tobytes()


SHAPES = ((3, 2, 3), (2, 4, 1))


def test_file_without_a_checksum_is_checked_by_its_layers(cache: Path) -> None:
    cache.mkdir()
    for minor in (1, 2):
        content = backbone(minor)
        (cache / "b.conv").write_bytes(content)
        note = fetch(NamedWeights("b.conv", len(content), convolutions=SHAPES)).note
        assert "no checksum is published: size, header and layer count checked" in note


@pytest.mark.parametrize(
    ("content", "shapes", "message"),
    [
        (b"<html>" + backbone()[6:], SHAPES, "is not a Darknet weights file"),
        (backbone() + bytes(4), SHAPES, "holds more than its 2 convolutions"),
        (backbone()[:-4], SHAPES, "numbers of convolution 2 of 2"),
        (backbone(), SHAPES[::-1], "numbers of convolution 1 of 2"),
        (backbone()[:20] + b"\0\0\xc0\x7f" + backbone()[24:], SHAPES, "numbers of convolution 1 of 2"),
    ],
    ids=["text", "long", "short", "other network", "NaN"],
)
def test_wrong_file_without_a_checksum(
    cache: Path, content: bytes, shapes: tuple[tuple[int, int, int], ...], message: str
) -> None:
    cache.mkdir()
    (cache / "b.conv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        fetch(NamedWeights("b.conv", len(content), convolutions=shapes))
