"""The images of a unit as sources, whose contents are fetched ahead of their decoding."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from yolofpn.addresses import local_path, shown
from yolofpn.bands import Bands
from yolofpn.data.images import is_animated
from yolofpn.data.reduced_images import Admit, NeededSize
from yolofpn.engines.identities import identity, key_of
from yolofpn.engines.listing import Listed
from yolofpn.engines.storage import read_bytes
from yolofpn.engines.tar_images import tar_images
from yolofpn.errors import InputError
from yolofpn.fields import Depth
from yolofpn.inference.pipeline import LIMIT
from yolofpn.sources.kinds import Source, decode_image, failed_source, file_source
from yolofpn.sources.remote import MAX_BYTES
from yolofpn.structures import Frame

FETCHES = 16  # at once, from addresses: an answer takes some ten milliseconds, a decoded image a few
FETCHED = 32  # images that are fetched, or being fetched, before their turn
JPEG = b"\xff\xd8"
MANY_IMAGES = "holds several images (an animation); run without --engine for it"


class _Waiting(NamedTuple):
    """A source that waits for its turn, and its content, if that is fetched."""

    key: str
    source: Source
    content: Future[bytes] | None


class ImageReading:
    """How the images of a run are read.

    Args:
        depth: bit depth of images with more than 8 bits per channel, or how bands are read.
        needed: the smallest size that will do in place of an image's own.
    """

    def __init__(self, depth: Depth | Bands, needed: NeededSize) -> None:
        self._depth: Depth | Bands = depth
        self._needed = needed
        self._sizes: deque[int] = deque(maxlen=FETCHED)  # bytes of the latest images that were fetched

    def sources(self, listed: Sequence[Listed]) -> Iterator[tuple[str, Source]]:
        """Key and source of each image, in order, and of each image of a tar; of those that fail too."""
        with ThreadPoolExecutor(FETCHES, "fetch") as pool:
            waiting: deque[_Waiting] = deque()
            try:
                for each in listed:
                    if each.kind == "tar":
                        while waiting:
                            yield self._next(waiting)
                        yield from self._of_tar(each.uri)
                        continue
                    while waiting and not self._has_room(waiting):
                        yield self._next(waiting)
                    waiting.append(_Waiting(key_of(identity(each.uri)), *self._source(each, pool)))
                while waiting:
                    yield self._next(waiting)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _has_room(self, waiting: deque[_Waiting]) -> bool:
        """Whether one more image may be fetched: those that are being fetched count as large as any of the latest."""
        contents = [each.content for each in waiting if each.content is not None]
        if not contents or len(waiting) >= FETCHED:
            return len(waiting) < FETCHED
        done = [_size(content) for content in contents if content.done()]
        running = len(contents) - len(done)
        return sum(done) + (running + 1) * max(self._sizes, default=LIMIT) <= LIMIT

    def _next(self, waiting: deque[_Waiting]) -> tuple[str, Source]:
        """The first; when it is there, whoever takes it can count its bytes."""
        key, source, content = waiting.popleft()
        if content is None:
            return key, source
        size = _size(content)
        self._sizes.append(size)
        return key, replace(source, held=size)

    def _source(self, listed: Listed, pool: ThreadPoolExecutor) -> tuple[Source, Future[bytes] | None]:
        name = shown(listed.uri)
        if listed.kind == "failed":
            return failed_source(name, listed.message), None
        path = local_path(listed.uri)
        if path is None:
            content = pool.submit(read_bytes, listed.uri)
            return self._of_content(name, content), content
        source = file_source(path, Path(path.name), 1, self._depth, self._needed)
        return (source if source.kind in ("image", "failed") else failed_source(name, f"{name}: {MANY_IMAGES}")), None

    def _of_tar(self, uri: str) -> Iterator[tuple[str, Source]]:
        own = identity(uri)
        try:
            for path, content in tar_images(uri, bands=isinstance(self._depth, Bands)):
                name, key = f"{shown(uri)}/{path}", key_of(f"{own}/{path}")
                if content is None:
                    message = f"{name}: has more than {MAX_BYTES // 2**20} MiB; shrink it first"
                    yield key, failed_source(name, message)
                else:
                    yield key, self._of_content(name, content)
        except InputError as error:
            yield key_of(own), failed_source(shown(uri), str(error))

    def _of_content(self, name: str, content: bytes | Future[bytes]) -> Source:
        decode = partial(self._decode, name, content)

        def read() -> Iterator[Frame]:
            yield decode(lambda pixels: None)

        held = len(content) if isinstance(content, bytes) else 0
        return Source(name, "image", Path(name.rpartition("/")[2]), read, frame_count=1, decode=decode, held=held)

    def _decode(self, name: str, content: bytes | Future[bytes], admit: Admit) -> Frame:
        data = content if isinstance(content, bytes) else content.result()
        if not data:
            raise InputError(f"{name}: is empty; fetch or copy it again")
        if not data.startswith(JPEG) and _is_animated(data):
            raise InputError(f"{name}: {MANY_IMAGES}")
        return decode_image(data, name, self._depth, self._needed, admit)


def _size(content: Future[bytes]) -> int:
    """Bytes; waits for them."""
    return 0 if content.exception() else len(content.result())


def _is_animated(data: bytes) -> bool:
    try:
        return is_animated(data)
    except InputError:  # told by its decoding
        return False
