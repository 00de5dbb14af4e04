"""The weights as bytes, so that the machines of a cluster need no copy of the file."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolofpn.config.metadata import rename_classes
from yolofpn.errors import UserError
from yolofpn.files import cache_folder, write_errors
from yolofpn.inference.load_detector import LoadedDetector, load_for_inference
from yolofpn.runtimes import runtime_of
from yolofpn.runtimes.exported import ExportedDetector


@dataclass(frozen=True)
class WeightsFiles:
    """Weights of any kind as one set of files that need nothing else.

    Attributes:
        digest: sha256 of all of it, hexadecimal.
        files: names, the one to be loaded first.
        names: class names by label.
    """

    digest: str
    files: tuple[str, ...]
    names: tuple[str, ...]

    def open(self, contents: list[NDArray[np.uint8]]) -> LoadedDetector:
        """Load them, from files in this machine's cache folder, which the first process to come writes.

        Args:
            contents: [bytes] uint8 of each file.

        Raises:
            UserError: the cache folder cannot be written.
        """
        folder = cache_folder() / "engines" / self.digest
        for name, content in zip(self.files, contents, strict=True):
            path = folder / name
            with write_errors(path):
                if path.is_file() and _digest([path.read_bytes()]) == _digest([content.data]):
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{name}.{uuid.uuid4().hex}.part")
                part.write_bytes(content.data)
                part.replace(path)
        return self.load()

    def load(self) -> LoadedDetector:
        """Load them from the cache folder, into which ``open`` has written them."""
        folder = cache_folder() / "engines" / self.digest
        loaded = load_for_inference(folder / self.files[0])
        metadata = rename_classes(loaded.metadata, self.names, "--names", folder / self.files[0])
        return LoadedDetector(loaded.detector, metadata, [])


def pack_weights(loaded: LoadedDetector) -> tuple[WeightsFiles, list[bytes]]:
    """The files of a detector, and their contents.

    A graph is taken as it is; all other weights, which may consist of several files, become one safetensors file with
    all metadata.

    Raises:
        UserError: they cannot be read.
    """
    detector = loaded.detector
    if isinstance(detector, ExportedDetector):
        runtime = runtime_of(detector.path)
        assert runtime is not None  # a graph is read by one
        paths = [path for path in runtime.files(detector.path) if path.is_file()]
        contents = [_read(path) for path in paths]
        # The name of a graph may matter to no one but its suffix.
        files = tuple(path.name for path in paths)
    else:
        from yolofpn.weights import save_weights

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.safetensors")
            save_weights(path, detector.state_dict(), loaded.metadata)
            contents, files = [_read(path)], (path.name,)
    return WeightsFiles(_digest(contents), files, loaded.metadata.names), contents


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _digest(contents: Sequence[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
