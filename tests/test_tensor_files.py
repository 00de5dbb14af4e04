"""Files of tensors that say more of themselves than they are; all of them are harmless to PyTorch itself."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
import torch

from yolofpn.reading import ParseError
from yolofpn.tensor_files import (
    MAX_PICKLE_BYTES,
    CodeError,
    encodable_path,
    read_archive,
    read_pickle,
    read_safetensors,
    write_safetensors,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3)}


def saved(path: Path, content: object, *, old: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old", [False, True])
def test_tensors_come_back(tmp_path: Path, old: bool) -> None:
    content = read_pickle(saved(tmp_path / "a.pt", TENSORS, old=old))
    assert torch.equal(content["a"], TENSORS["a"])


def test_checkpoints_are_archives(tmp_path: Path) -> None:
    with pytest.raises(ParseError):
        read_archive(saved(tmp_path / "a.pt", TENSORS, old=True))


def test_a_compressed_archive_is_refused_unread(tmp_path: Path) -> None:
    path, small = saved(tmp_path / "a.pt", {"a": torch.zeros(100_000)}), tmp_path / "small.pt"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    assert small.stat().st_size < path.stat().st_size / 50
    with pytest.raises(ParseError, match="compressed"):
        read_archive(small)


@pytest.mark.parametrize("old", [False, True])
def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path, old: bool) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.zeros(1).expand(1000, 1000)}, old=old)
    with pytest.raises(ParseError, match=r"larger|more"):
        read_pickle(path)


def test_far_more_than_names_beside_the_tensors_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"a": "x" * (MAX_PICKLE_BYTES + 1)})
    with pytest.raises(ParseError, match="far more"):
        read_archive(path)


def test_shared_containers_are_walked_once(tmp_path: Path) -> None:
    content: list[object] = []
    for _ in range(20):
        content = [content] * 10  # 10 ** 20 ways lead to the innermost list
    assert len(read_archive(saved(tmp_path / "a.pt", content))) == 10


def test_sparse_tensors_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"a": torch.eye(3).to_sparse()})
    with pytest.raises(ParseError, match="dense"):
        read_archive(path)


@pytest.mark.parametrize("old", [False, True])
def test_code_is_refused(tmp_path: Path, old: bool) -> None:
    path = saved(tmp_path / "a.pt", {"a": Path("x")}, old=old)
    with pytest.raises(CodeError):
        read_pickle(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x80\x02.", bytes(100), b"{" * 100])
def test_other_files_are_parse_errors(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    for read in (read_archive, read_pickle, read_safetensors):
        with pytest.raises(ParseError):
            read(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o007])
def test_weights_have_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "a.safetensors"
    before = os.umask(mask)
    try:
        write_safetensors(path, dict(TENSORS), {"k": "v"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    tensors, metadata = read_safetensors(path)
    assert torch.equal(tensors["a"], TENSORS["a"])
    assert metadata == {"k": "v"}


@pytest.mark.skipif(os.name == "nt", reason="Windows' names are always Unicode")
def test_folders_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    write_safetensors(folder / "a.safetensors", dict(TENSORS), {})
    assert torch.equal(read_safetensors(folder / "a.safetensors")[0]["a"], TENSORS["a"])
    path = saved(tmp_path / "a.pt", TENSORS).rename(folder / "a.pt")
    for only_look in (False, True):
        assert torch.equal(read_archive(path, only_look=only_look)["a"], TENSORS["a"])
    with encodable_path(folder) as link:
        assert link != folder and (link / "a.pt").is_file()
    assert not link.exists()
