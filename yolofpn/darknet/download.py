"""Downloads Darknet's published weights by name into the cache, with resuming and verification."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from yolofpn.darknet.weights_file import open_weights
from yolofpn.errors import UserError
from yolofpn.files import CACHE_VARIABLE, cache_folder
from yolofpn.models.backbones.darknet import DARKNET53_CHANNELS, DARKNET53_DEPTHS
from yolofpn.text import bar_stream

ORIGINAL_SITE = "https://pjreddie.com/media/files/"
MIRROR_VARIABLE = "YOLOFPN_MIRROR"
_CHUNK = 1 << 18

ConvShape = tuple[int, int, int]  # in_channels, out_channels, kernel_size


def darknet53_convolutions() -> tuple[ConvShape, ...]:
    """Return Darknet-53's 52 convolutions in the order of the file (arXiv 1804.02767, table 1)."""
    shapes = [(3, 32, 3)]
    for blocks, channels in zip(DARKNET53_DEPTHS, DARKNET53_CHANNELS, strict=True):
        half = channels // 2
        shapes += [(half, channels, 3), *((channels, half, 1), (half, channels, 3)) * blocks]
    return tuple(shapes)


@dataclass(frozen=True)
class NamedWeights:
    """A published file.

    Attributes:
        file_name: on the site and in the cache.
        size: in bytes.
        sha256: hexadecimal; None where none is published.
        convolutions: the batch-normalised convolutions that a file without a checksum must consist of.
    """

    file_name: str
    size: int
    sha256: str | None = None
    convolutions: tuple[ConvShape, ...] = ()


@dataclass(frozen=True)
class FetchedWeights:
    """The path of the file, and a message with its origin and how it was verified."""

    path: Path
    note: str


NAMED_WEIGHTS: Mapping[str, NamedWeights] = {
    "yolov3": NamedWeights(
        "yolov3.weights", 248_007_048, "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297"
    ),
    "yolov3-tiny": NamedWeights(
        "yolov3-tiny.weights", 35_434_956, "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
    ),
    "yolov3-spp": NamedWeights(
        "yolov3-spp.weights", 252_209_544, "87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4"
    ),
    "darknet53.conv.74": NamedWeights("darknet53.conv.74", 162_482_580, convolutions=darknet53_convolutions()),
}


def fetch_weights(
    weights: NamedWeights,
    *,
    timeout: float = 30.0,
    attempts: int = 5,
    wait: float = 1.0,
) -> FetchedWeights:
    """Return the file in the cache; download it if it is missing.

    An interrupted download is resumed, in this call or a later one; the file gets its final name only after
    verification. Concurrent processes download a file only once.

    Args:
        weights: an entry of ``NAMED_WEIGHTS``.
        timeout: seconds without any data after which the connection is given up.
        attempts: connections tried before giving up.
        wait: seconds between two of them.

    Raises:
        UserError: if it cannot be downloaded or written, or is not the published file.
    """
    path = cache_folder() / weights.file_name
    try:
        if path.is_file():
            origin = "found in the cache"
            if problem := find_problem(weights, path):
                raise UserError(f"{path}: {problem}: delete it, and it is downloaded again")
        else:
            url = _url(weights)
            origin = f"downloaded from {url}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name(path.name + ".lock")):
                if not path.is_file():
                    _download(weights, url, path, timeout=timeout, attempts=attempts, wait=wait)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: make room there or set {CACHE_VARIABLE}") from None
    checked = "size and sha256" if weights.sha256 else "no checksum is published: size, header and layer count"
    return FetchedWeights(path, f"weights: {path} ({origin}; {checked} checked)")


def find_problem(weights: NamedWeights, path: Path) -> str | None:
    """Return why the file is not the published one; None if it is."""
    size = path.stat().st_size
    if size != weights.size:
        return f"has {size:,} bytes, the published file {weights.size:,}"
    if weights.sha256 is None:
        return _find_layer_problem(weights, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == weights.sha256 else f"has sha256 {digest}, the published file {weights.sha256}"


def _find_layer_problem(weights: NamedWeights, path: Path) -> str | None:
    try:
        values = open_weights(path).numbers
    except UserError as error:
        return f"is not a Darknet weights file ({error})"
    start = 0
    for number, (in_channels, out_channels, kernel_size) in enumerate(weights.convolutions, 1):
        count = (4 + in_channels * kernel_size**2) * out_channels
        layer = values[start : start + count]
        variances = layer[3 * out_channels : 4 * out_channels]
        if len(layer) < count or not np.isfinite(layer).all() or (variances < 0).any():
            return f"does not hold the numbers of convolution {number} of {len(weights.convolutions)}"
        start += count
    return None if start == len(values) else f"holds more than its {len(weights.convolutions)} convolutions"


def _url(weights: NamedWeights) -> str:
    base = os.environ.get(MIRROR_VARIABLE) or ORIGINAL_SITE
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise UserError(
            f"{MIRROR_VARIABLE} must be an http or https address without user and password, such as {ORIGINAL_SITE}"
        )
    return base.rstrip("/") + "/" + weights.file_name


class _TransferError(Exception):
    """A failed connection; ``final`` if retrying cannot help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def _download(weights: NamedWeights, url: str, path: Path, *, timeout: float, attempts: int, wait: float) -> None:
    """Download to ``path``.part, verify it, and rename it."""
    part = path.with_name(path.name + ".part")
    print(f"downloading {url} ({weights.size / 1e6:,.0f} MB)", file=sys.stderr)
    for attempt in range(1, attempts + 1):
        try:
            _receive(weights, url, part, timeout)
            break
        except _TransferError as error:
            if error.final or attempt == attempts:
                raise UserError(
                    f"{weights.file_name} cannot be downloaded from {url} ({error}): put the file at {path} by hand, "
                    f"or set {MIRROR_VARIABLE} to the base address of a site that has it"
                ) from None
            time.sleep(wait)
    if problem := find_problem(weights, part):
        part.unlink()
        raise UserError(
            f"{url}: what came {problem}: removed; set {MIRROR_VARIABLE} to another site, or put it at {path}"
        )
    part.replace(path)


def _receive(weights: NamedWeights, url: str, part: Path, timeout: float) -> None:
    """Download the missing bytes of ``part`` over one connection."""
    start = part.stat().st_size if part.exists() else 0
    if start > weights.size:
        start = 0
    if start == weights.size:
        return
    with _transfer_errors():
        response = _open(url, start, timeout)
    with response:
        start = _first_byte(response, start, weights.size)
        with part.open("ab") as file, _progress(weights, start) as advance:
            if file.tell() != start:
                file.truncate(start)
            _copy(response, file, weights.size - start, advance)


def _open(url: str, start: int, timeout: float) -> HTTPResponse:
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers={"User-Agent": "yolofpn", **headers})
    response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    return response


def _first_byte(response: HTTPResponse, asked: int, size: int) -> int:
    """Return the offset at which the response starts: 0 if the server does not support ranges."""
    if response.status == 206:
        content_range = response.headers.get("Content-Range", "").replace(" ", "")
        if content_range != f"bytes{asked}-{size - 1}/{size}":
            raise _TransferError(f"it answered the range {asked}- with {content_range or 'none'!r}", final=True)
        return asked
    length = response.headers.get("Content-Length")
    if length is not None and length != str(size):
        raise _TransferError(f"it offers {length} bytes, the published file has {size}", final=True)
    return 0


def _copy(response: HTTPResponse, file: IO[bytes], missing: int, advance: Callable[[int], object]) -> None:
    while missing:
        with _transfer_errors():
            chunk = response.read1(min(_CHUNK, missing))
        if not chunk:
            raise _TransferError(f"the connection ended {missing:,} bytes early")
        file.write(chunk)
        missing -= len(chunk)
        advance(len(chunk))


@contextmanager
def _transfer_errors() -> Iterator[None]:
    # URLError, TimeoutError and ConnectionError are all OSErrors, as are those of a full disk: hence this narrow net.
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _TransferError(f"HTTP {error.code} {error.reason}", final=error.code < 500) from None
    except urllib.error.URLError as error:
        raise _TransferError(str(error.reason), final=True) from None
    except (OSError, HTTPException) as error:
        raise _TransferError(str(error) or type(error).__name__) from None


@contextmanager
def _progress(weights: NamedWeights, start: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal."""
    file = bar_stream(sys.stderr)
    name = weights.file_name
    bar = tqdm(total=weights.size, initial=start, unit="B", unit_scale=True, desc=name, disable=None, file=file)
    with bar:
        yield bar.update


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock; the system releases it when the process ends."""
    with path.open("a") as file:
        if not _try_lock(file):
            print(f"waiting for another process that downloads {path.stem}", file=sys.stderr)
            while not _try_lock(file):
                time.sleep(0.2)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
