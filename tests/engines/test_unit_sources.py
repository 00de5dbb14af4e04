"""How much of remote images and tars is in memory at once."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from yolofpn.data.tar_headers import MAX_NAME_BYTES
from yolofpn.engines import unit_sources
from yolofpn.engines.listing import Listed
from yolofpn.engines.storage import read_bytes, write_file
from yolofpn.engines.tar_images import tar_images
from yolofpn.engines.unit_detector import LARGEST_PART
from yolofpn.engines.unit_sources import FETCHED, ImageReading
from yolofpn.errors import InputError


def received_at(monkeypatch: pytest.MonkeyPatch, size: int) -> list[int]:
    """How many fetches were begun beyond those of the sources that were taken, each time that one is taken."""
    begun: list[str] = []

    def read(uri: str) -> bytes:
        begun.append(uri)
        if uri.endswith("/7"):
            raise InputError("bad")
        return bytes(size)

    monkeypatch.setattr(unit_sources, "read_bytes", read)
    monkeypatch.setattr(unit_sources, "LIMIT", 1000)
    listed = [Listed(f"s3://b/{index}", "image") for index in range(100)]
    ahead: list[int] = []
    taken = 0
    for _, source in ImageReading("auto", lambda size: size).sources(listed):
        taken += 1
        ahead.append(len(begun) - taken)
        assert source.held == (0 if source.name.endswith("/7") else size)
    assert taken == len(begun) == len(listed)
    return ahead


def test_large_images_are_not_fetched_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(received_at(monkeypatch, 400)) <= 2
    assert max(received_at(monkeypatch, 2000)) <= 1
    assert max(received_at(monkeypatch, 1)) < FETCHED


def test_a_small_file_takes_little_memory(in_own_folder: Path) -> None:
    Path("part").write_bytes(b"abc")
    tracemalloc.start()
    try:
        assert read_bytes("part", LARGEST_PART) == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(InputError):
        read_bytes("part", 2)


def test_large_results_are_uploaded_in_pieces(in_own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec", reason="it comes with PyTorch or Ray Data")
    monkeypatch.delattr(Path, "read_bytes")
    Path("large").write_bytes(b"abc")
    write_file("memory://results/large", Path("large"))
    assert fsspec.filesystem("memory").cat_file("/results/large") == b"abc"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_long_header_of_a_tar_is_refused(in_own_folder: Path, kind: bytes) -> None:
    with tarfile.open("x.tar.gz", "w:gz", compresslevel=1) as tar:
        long = "folder/" * 30 + "a.jpg"  # has a header of its own, too
        info = tarfile.TarInfo(long)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        header = tarfile.TarInfo("header")
        header.type, header.size = kind, MAX_NAME_BYTES + 1
        tar.addfile(header, io.BytesIO(bytes(header.size)))
        tar.addfile(info, io.BytesIO(b"abc"))
    members = tar_images("x.tar.gz")
    assert next(members) == (long, b"abc")
    with pytest.raises(InputError):
        next(members)


@pytest.mark.skipif(not Path("/proc/self/limits").is_file(), reason="needs a file system that does not know its sizes")
def test_a_file_whose_size_is_unknown_is_read_whole() -> None:
    path = Path("/proc/self/limits")
    assert path.stat().st_size == 0
    assert read_bytes(str(path)) == path.read_bytes()
    with pytest.raises(InputError):
        read_bytes(str(path), limit=100)
