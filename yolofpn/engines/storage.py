"""Reading, writing and listing of files at any address: local paths, http(s), and object storage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from yolofpn.addresses import is_http, is_url, local_path, shown
from yolofpn.errors import InputError
from yolofpn.files import write_errors
from yolofpn.regular_files import open_regular_file
from yolofpn.remote_files import MissingError, attempted, file_system
from yolofpn.sources.remote import MAX_BYTES, fetch


def join(folder: str, name: str) -> str:
    """The address of a file within a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder, name))


def read_bytes(uri: str, limit: int = MAX_BYTES) -> bytes:
    """The content of a file at any address.

    Args:
        uri: of the file.
        limit: the most bytes that it may have.

    Raises:
        InputError: it is missing, too large, or cannot be read after several attempts.
        UserError: the package for such addresses is not installed.
    """
    name = shown(uri)
    path = local_path(uri)

    def read() -> bytes:
        if path is not None:
            with open_regular_file(path) as file:
                # Python reserves what is asked for: gigabytes, by each of the threads that read the parts of a run.
                content = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
                while len(content) <= limit and (more := file.read(min(2**16, limit + 1 - len(content)))):
                    content += more  # some file systems say 0 of what they do not know
                return content
        if is_http(uri):
            return _fetch_image(uri)
        system, place = file_system(uri)
        data: bytes = system.cat_file(place, start=0, end=limit + 1)
        return data

    data = attempted(read, name)
    if len(data) > limit:
        raise InputError(f"{name}: has more than {limit // 2**20} MiB; shrink it first")
    return data


@contextmanager
def open_stream(uri: str) -> Iterator[IO[bytes]]:
    """A file at any address, to be read from its start; what reading raises is left to the caller.

    Raises:
        InputError: it cannot be opened.
        UserError: the package for such addresses is not installed.
    """
    path = local_path(uri)

    def opened() -> Any:  # noqa: ANN401 an fsspec file
        if path is not None:
            return open_regular_file(path)
        system, place = file_system(uri)
        return system.open(place, "rb")

    with closing(attempted(opened, shown(uri))) as stream:
        yield stream


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole file at any address, so that nobody ever sees half of it.

    A local file gets its name when it is complete; object storage shows an object when all of it has arrived.

    Raises:
        UserError: it cannot be written.
    """
    path = local_path(uri)
    if path is None:
        system, place = file_system(uri)
        attempted(lambda: system.pipe_file(place, data), shown(uri), "written")
        return
    # Several machines may write the same file to a shared disk.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    with write_errors(path):
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def write_file(uri: str, path: Path) -> None:
    """Write a file to an address of object storage, in pieces, so that it may be larger than the memory.

    Raises:
        InputError: it cannot be written.
    """
    system, place = file_system(uri)
    attempted(lambda: system.put_file(str(path), place), shown(uri), "written")


def remove(uri: str) -> None:
    """Remove a file at any address.

    Raises:
        InputError: it cannot be removed.
    """
    path = local_path(uri)
    attempted(path.unlink if path is not None else lambda: _remove_object(uri), shown(uri), "removed")


def make_folder(uri: str) -> None:
    """Make a local folder; object storage needs none.

    Raises:
        UserError: it cannot be made.
    """
    path = local_path(uri)
    if path is not None:
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)


def names_in(folder: str) -> list[str]:
    """The sorted names of the files in a folder; empty where there is none.

    Raises:
        InputError: it cannot be listed.
    """
    path = local_path(folder)
    if path is not None:
        return sorted(each.name for each in path.iterdir()) if path.is_dir() else []
    try:
        return [name for name, is_folder in entries_of(folder) if not is_folder]
    except MissingError:
        return []


def entries_of(folder: str) -> list[tuple[str, bool]]:
    """Name, and whether it is a folder, of what is in a folder of object storage, sorted.

    Raises:
        InputError: it is missing, or cannot be listed.
        UserError: the package for such addresses is not installed.
    """
    system, place = file_system(folder)
    found = attempted(lambda: system.ls(place, detail=True), shown(folder), "listed")
    inside = [(entry["name"].rstrip("/"), entry["type"] == "directory") for entry in found]
    own = place.rstrip("/")
    return sorted((name.rpartition("/")[2], is_folder) for name, is_folder in inside if name != own)


def _fetch_image(uri: str) -> bytes:
    remote = fetch(uri)
    if remote.kind != "image":
        raise InputError(f"{shown(uri)}: a {remote.kind}, not an image; run without --engine for it")
    return remote.data


def _remove_object(uri: str) -> None:
    system, place = file_system(uri)
    system.rm_file(place)
