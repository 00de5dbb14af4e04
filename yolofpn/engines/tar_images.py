"""Images in WebDataset shards: tar files that are read from start to end, at any address."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from yolofpn.data.band_files import NPY_SUFFIX
from yolofpn.data.images import readable_suffixes
from yolofpn.data.tar_headers import CheckedInfo
from yolofpn.engines.reading_on import read_on
from yolofpn.engines.storage import open_stream
from yolofpn.sources.remote import MAX_BYTES

_DAMAGED = (tarfile.TarError, EOFError, zlib.error)


class Member(NamedTuple):
    """An image of a tar.

    Attributes:
        path: within the tar.
        content: None: it is too large.
    """

    path: str
    content: bytes | None


def tar_images(uri: str, *, bands: bool = False) -> Iterator[Member]:
    """Yield the images, in the order of the file; other members, such as labels, are skipped.

    Where a connection breaks, the tar is opened again, and read on from the member that was not complete.

    Args:
        uri: of the tar.
        bands: whether the weights take bands, so that ``.npy`` files are images.

    Raises:
        InputError: the tar is missing, damaged, or cannot be read to its end.
    """
    suffixes = readable_suffixes() | ({NPY_SUFFIX} if bands else frozenset())
    return read_on(uri, lambda: _members(uri, suffixes), _DAMAGED, what="images")


def _members(uri: str, suffixes: frozenset[str]) -> Iterator[Member]:
    with open_stream(uri) as stream, tarfile.open(fileobj=stream, mode="r|*", tarinfo=CheckedInfo) as tar:
        for info in tar:
            path = PurePosixPath(info.name)
            if not info.isfile() or path.suffix.lower() not in suffixes or path.name.startswith("."):
                continue
            content = None
            if info.size <= MAX_BYTES:
                file = tar.extractfile(info)
                content = b"" if file is None else file.read()
                if len(content) < info.size:
                    raise tarfile.ReadError("unexpected end of data")
            yield Member(info.name, content)
            tar.members.clear()  # type: ignore[attr-defined]  # TarFile keeps all that it has seen
