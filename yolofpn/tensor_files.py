"""Files of tensors (safetensors, PyTorch's archives and older pickles): sizes are checked before anything is read.

No code is ever unpickled. What a file says of its own sizes is compared with its size on the disk, so that a small
file cannot fill the memory: compressed archives, tensors that say to be larger than their file and long pickles are
refused.
"""

from __future__ import annotations

import os
import pickle
import pickletools
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from yolofpn.files import unfinished
from yolofpn.reading import ParseError, is_encodable
from yolofpn.regular_files import open_regular_file, require_regular_file

MAX_PICKLE_BYTES = 4_000_000  # names, shapes and numbers of all tensors; YOLOv3's take 100 kB with its optimiser
_MAX_NESTING = 32
_umask_lock = threading.Lock()


class CodeError(ParseError):
    """A pickle names something beside tensors and plain values: reading it would run code."""


def read_safetensors(path: Path, *, only_look: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata.

    Args:
        path: of the file.
        only_look: leave the tensors on the disk: none come back.

    Raises:
        ParseError: it is missing, damaged, cut short, or no such file.
    """
    try:
        require_regular_file(path)
        with encodable_path(path) as readable, safe_open(readable, "pt") as file:
            names = [] if only_look else file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except Exception as error:  # types that torch does not have are an AttributeError, and so on
        raise ParseError(_reason(error)) from None


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions of any new file; under ``path`` there is never half of it.

    Raises:
        OSError: it cannot be written.
        SafetensorError: the same, from within the library.
    """
    with unfinished(path, unique=True) as part:
        with encodable_path(part.parent) as folder:
            save_file(tensors, folder / part.name, metadata)
        part.chmod(0o666 & ~_umask())  # the library makes files that only their owner can read


def read_archive(path: Path, *, only_look: bool = False) -> Any:  # noqa: ANN401
    """Read a torch.save file; only tensors and plain values are accepted.

    Args:
        path: of the file.
        only_look: leave the tensors on the disk, for a glance at the numbers.

    Raises:
        OSError: it cannot be read.
        CodeError: it holds more than tensors and plain values.
        ParseError: it is damaged, compressed, or says to be larger than it is.
    """
    size = path.stat().st_size
    _check_zip(path, size)
    content = _load(path, mmap=only_look)
    _check_tensors(content, size)
    return content


def read_pickle(path: Path) -> Any:  # noqa: ANN401
    """As ``read_archive``, and the files that PyTorch wrote before 1.6, in which many published weights are.

    Raises:
        OSError: it cannot be read.
        CodeError: it holds more than tensors and plain values.
        ParseError: it is damaged, compressed, or says to be larger than it is.
    """
    require_regular_file(path)
    if zipfile.is_zipfile(path):
        return read_archive(path)
    size = path.stat().st_size
    _check_old_pickle(path, size)
    content = _load(path, mmap=False)
    _check_tensors(content, size)
    return content


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file or of a ``.pth`` file, of which only tensors are ever read; None if it is none.

    Training checkpoints keep them under 'state_dict'.
    """
    with suppress(ParseError):
        return read_safetensors(path)[0]
    try:
        content = read_pickle(path)
    except (ParseError, OSError):
        return None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    return content


@contextmanager
def encodable_path(path: Path) -> Iterator[Path]:
    """``path``, or where its name is not UTF-8, which some libraries refuse, a link to it in a temporary folder."""
    if is_encodable(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="yolofpn-") as folder:
        link = Path(folder) / f"link{path.suffix if is_encodable(path.suffix) else ''}"
        link.symlink_to(path.absolute())
        yield link


def _umask() -> int:
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _load(path: Path, *, mmap: bool) -> Any:  # noqa: ANN401
    try:
        with warnings.catch_warnings(action="ignore"), encodable_path(path) as readable:
            return torch.load(readable, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise CodeError(_reason(error)) from None
    except Exception as error:  # damaged bytes lead torch into errors of every kind
        raise ParseError(_reason(error)) from None


def _check_zip(path: Path, size: int) -> None:
    """Torch's own archives are stored, not compressed: nothing in them grows when it is read."""
    with open_regular_file(path) as file:
        if file.read(2) not in (b"PK", b""):
            raise CodeError("is a pickle outside of an archive")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except OSError:
        raise
    except Exception as error:  # as in _load
        raise ParseError(_reason(error)) from None
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ParseError("is compressed, which PyTorch's files never are")
    if sum(entry.file_size for entry in entries) > size:
        raise ParseError("says to hold more than its own size")
    if any(entry.file_size > MAX_PICKLE_BYTES for entry in entries if entry.filename.endswith(".pkl")):
        raise ParseError("lists far more than the tensors of a network")


def _check_old_pickle(path: Path, size: int) -> None:
    """No number in its pickles may exceed its size: storages are made before their bytes are read."""
    try:
        with path.open("rb") as file:
            for number in range(4):  # magic number, protocol, system, content
                for _, argument, place in pickletools.genops(file):
                    if number == 3 and isinstance(argument, int) and argument > size:
                        raise ParseError("says to hold more than its own size")
                    if (place or 0) > MAX_PICKLE_BYTES:
                        raise ParseError("lists far more than the tensors of a network")
    except (OSError, ParseError):
        raise
    except Exception as error:  # as in _load
        raise ParseError(_reason(error)) from None


def _check_tensors(content: object, size: int) -> None:
    """Every tensor is dense, and none is larger than its file."""
    nodes: list[tuple[object, int]] = [(content, 0)]
    seen: dict[int, int] = {}  # containers may be shared: each is walked again only where it lies deeper
    while nodes:
        node, depth = nodes.pop()
        if seen.get(id(node), -1) >= depth:
            continue
        seen[id(node)] = depth
        if depth > _MAX_NESTING:
            raise ParseError("is nested too deeply")
        if isinstance(node, Tensor):
            if node.layout is not torch.strided or node.is_quantized or node.device.type != "cpu":
                raise ParseError("holds tensors that are not dense")
            if node.numel() * node.element_size() > size:
                raise ParseError("holds tensors that say to be larger than their file")
        elif isinstance(node, Mapping):
            nodes += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list | tuple | set):
            nodes += [(value, depth + 1) for value in node]


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]
