"""Images in WebDataset shards: tar files that are read from start to end, at any address."""

from __future__ import annotations

import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from yolofpn.data.images import readable_suffixes
from yolofpn.engines.storage import PAUSES, open_stream, shown
from yolofpn.errors import InputError
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


def tar_images(uri: str) -> Iterator[Member]:
    """Yield the images, in the order of the file; other members, such as labels, are skipped.

    Where a connection breaks, the tar is opened again, and read on from the member that was not complete.

    Raises:
        InputError: the tar is missing, damaged, or cannot be read to its end.
    """
    given = 0
    for pause in (*PAUSES, None):
        try:
            for member in _members(uri, given):
                given += 1
                yield member
            return
        except _DAMAGED as error:
            raise InputError(f"{shown(uri)}: damaged after {given} images ({type(error).__name__})") from None
        except InputError:  # opening it was tried several times
            raise
        except Exception as error:  # libraries of storage have errors of their own
            if pause is None:
                reason = type(error).__name__
                raise InputError(
                    f"{shown(uri)}: cannot be read after {given} images ({reason}); resume later"
                ) from None
            time.sleep(pause)


def _members(uri: str, given: int) -> Iterator[Member]:
    """The images behind the first ``given``."""
    with open_stream(uri) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        count = 0
        for info in tar:
            path = PurePosixPath(info.name)
            if not info.isfile() or path.suffix.lower() not in readable_suffixes() or path.name.startswith("."):
                continue
            count += 1
            if count <= given:
                continue
            content = None
            if info.size <= MAX_BYTES:
                file = tar.extractfile(info)
                content = b"" if file is None else file.read()
                if len(content) < info.size:
                    raise tarfile.ReadError("unexpected end of data")
            yield Member(info.name, content)
            tar.members.clear()  # type: ignore[attr-defined]  # TarFile keeps all that it has seen
