"""Names for results: like those of their sources, fit for any file system, and never the same for two."""

from __future__ import annotations

import contextlib
import unicodedata
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from yolofpn.files import write_errors
from yolofpn.text import safe_part

if TYPE_CHECKING:
    from yolofpn.structures import Frame


class SourceInfo(Protocol):
    """Description of a source for the sinks."""

    @property
    def name(self) -> str:
        """The name for messages, without password."""
        ...

    @property
    def kind(self) -> str:
        """'image', 'video' (a file with an end) or 'stream'."""
        ...

    @property
    def relative_path(self) -> PurePath:
        """The path relative to the given folder, or the name of the given file."""
        ...

    @property
    def path(self) -> Path | None:
        """The local file, if it is one."""
        ...

    @property
    def fps(self) -> float | None:
        """Nominal frames per second of a video, where known."""
        ...


class OutputNames:
    """Names for what is written about each source: like the source's own, and never the same for two.

    An image gets a new name each time it is asked for; a video or stream keeps its name over all of its frames.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last_number: dict[str, int] = {}
        self._moving: dict[int, tuple[SourceInfo, PurePath]] = {}  # holds the source, so that its id stays its own

    def stem(self, source: SourceInfo) -> PurePath:
        """The source's relative path without suffix, numbered (``dog-2``) where another source has that name."""
        if source.kind == "image":
            return self.claim(source_stem(source))
        if id(source) not in self._moving:
            self._moving[id(source)] = (source, self.claim(source_stem(source)))
        return self._moving[id(source)][1]

    def frame_stem(self, source: SourceInfo, frame: Frame) -> PurePath:
        """``stem``, with the frame's number if the source has many frames."""
        stem = self.stem(source)
        return stem if source.kind == "image" else add_suffix(stem, f"_{frame.index:06d}")

    def claim(self, stem: PurePath, suffix: str = "") -> PurePath:
        """``stem + suffix`` if nobody has it, else ``stem-2 + suffix``, ``stem-3 + suffix``, ..."""
        wanted = add_suffix(stem, suffix)
        number = self._last_number.get(_key(wanted), 1)
        candidate = wanted if number == 1 else add_suffix(stem, f"-{number}{suffix}")
        while _key(candidate) in self._taken:
            number += 1
            candidate = add_suffix(stem, f"-{number}{suffix}")
        self._last_number[_key(wanted)] = number
        self._taken.add(_key(candidate))
        return candidate


def next_output_dir(base: Path, source_name: str) -> Path:
    """Make and return the first free of ``base/SOURCE-1``, ``-2``, ...; two programs never get the same one.

    Args:
        base: usually ``runs/detect``.
        source_name: what the run is about: a path, a URL, a camera's number.

    Raises:
        UserError: no folder can be made there.
    """
    name = safe_part(PurePath(source_name).stem or source_name) or "detect"
    with write_errors(base):
        base.mkdir(parents=True, exist_ok=True)
        numbers = [path.name.removeprefix(f"{name}-") for path in base.glob("*") if path.name.startswith(f"{name}-")]
        number = max((int(text) for text in numbers if text.isascii() and text.isdigit()), default=0)
        while True:
            number += 1
            with contextlib.suppress(FileExistsError):
                (base / f"{name}-{number}").mkdir()
                return base / f"{name}-{number}"


def source_stem(source: SourceInfo) -> PurePath:
    """A source's relative path without its file suffix, every part of it fit for any file system."""
    path = source.relative_path
    last = path.name if source.kind == "stream" else path.stem
    parts = [safe_part(part) for part in path.parts[:-1] if part != path.anchor and part not in ("..", ".")]
    return PurePath(*[part for part in parts if part], safe_part(last) or source.kind)


def add_suffix(path: PurePath, suffix: str) -> PurePath:
    """``path`` with ``suffix`` put after its name, whatever dots the name has."""
    return path.with_name(path.name + suffix)


def _key(path: PurePath) -> str:
    # Some file systems see no difference between upper and lower case, or between composed and decomposed accents.
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
