"""Part files: the rows of a unit, as Parquet or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from yolofpn.sinks.records import record, rows
from yolofpn.structures import Detections, Frame

ROWS_AT_ONCE = 4096  # of a Parquet row group; a tar may have more


class PartFile(Protocol):
    """The rows of a unit while they come.

    Attributes:
        key: its name in ``--format``.
        suffix: of its files.
    """

    key: ClassVar[str]
    suffix: ClassVar[str]

    def add(self, key: str, frame: Frame, detections: Detections) -> None:
        """Add the row of an image."""
        ...

    def add_failed(self, key: str, image: str, error: str) -> None:
        """Add the row of an image that could not be used."""
        ...

    def add_stored(self, row: dict[str, Any]) -> None:
        """Add a row of an earlier file."""
        ...

    def content(self) -> bytes:
        """The file."""
        ...

    @classmethod
    def stored_rows(cls, content: bytes) -> Iterator[dict[str, Any]]:
        """The rows of a file, for ``add_stored``."""
        ...

    @classmethod
    def images(cls, content: bytes) -> Iterator[tuple[str, str, str | None]]:
        """Key, name and error, if any, of each image of a file."""
        ...


class ParquetPart:
    """Columns image, width, height, boxes, scores, labels, names, error and key.

    The key tells images apart whose names are shown alike: see ``identities``. Boxes are xyxy in pixels, in full
    precision. Of an image with an error, width and height are null and the lists empty.
    """

    key: ClassVar[str] = "parquet"
    suffix: ClassVar[str] = ".parquet"

    def __init__(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        self._schema = _schema()
        self._buffer = pa.BufferOutputStream()
        self._writer = pyarrow.parquet.ParquetWriter(self._buffer, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, key: str, frame: Frame, detections: Detections) -> None:
        """Add the row of an image."""
        height, width = frame.size
        found = rows(detections)
        self.add_stored(
            {
                "image": _encodable(frame.source),
                "width": width,
                "height": height,
                "boxes": [box for box, *_ in found],
                "scores": [score for _, score, *_ in found],
                "labels": [label for *_, label, _ in found],
                "names": [name for *_, name in found],
                "error": None,
                "key": key,
            }
        )

    def add_failed(self, key: str, image: str, error: str) -> None:
        """Add the row of an image that could not be used."""
        none: dict[str, Any] = {"width": None, "height": None, "boxes": [], "scores": [], "labels": [], "names": []}
        self.add_stored({"image": _encodable(image), **none, "error": _encodable(error), "key": key})

    def add_stored(self, row: dict[str, Any]) -> None:
        """Add a row of an earlier file."""
        self._rows.append(row)
        if len(self._rows) == ROWS_AT_ONCE:
            self._flush()

    def content(self) -> bytes:
        """The file; nothing can be added any more."""
        self._flush()
        self._writer.close()
        data: bytes = self._buffer.getvalue().to_pybytes()
        return data

    @classmethod
    def stored_rows(cls, content: bytes) -> Iterator[dict[str, Any]]:
        """The rows of a file, for ``add_stored``."""
        import pyarrow as pa
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(pa.BufferReader(content)).iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()

    @classmethod
    def images(cls, content: bytes) -> Iterator[tuple[str, str, str | None]]:
        """Key, name and error, if any, of each image of a file."""
        import pyarrow as pa
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(pa.BufferReader(content), columns=["key", "image", "error"])
        yield from zip(*(table[name].to_pylist() for name in ("key", "image", "error")), strict=True)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []


def _schema() -> Any:  # noqa: ANN401 pyarrow is imported by functions only
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("image", pa.string(), nullable=False),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("boxes", pa.list_(pa.list_(pa.float32()))),
            ("scores", pa.list_(pa.float32())),
            ("labels", pa.list_(pa.int32())),
            ("names", pa.list_(pa.string())),
            ("error", pa.string()),
            pa.field("key", pa.string(), nullable=False),
        ]
    )


class JsonLinesPart:
    """The lines of ``detections.jsonl``, with a ``key`` as in Parquet.

    An image that could not be used has a line with its ``error``.
    """

    key: ClassVar[str] = "jsonl"
    suffix: ClassVar[str] = ".jsonl"

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def add(self, key: str, frame: Frame, detections: Detections) -> None:
        """Add the line of an image."""
        self.add_stored({**record(frame, detections), "key": key})

    def add_failed(self, key: str, image: str, error: str) -> None:
        """Add the line of an image that could not be used."""
        frame: dict[str, Any] = {"source": image, "frame": 0, "time": 0.0, "width": None, "height": None}
        self.add_stored({**frame, "detections": [], "error": error, "key": key})

    def add_stored(self, row: dict[str, Any]) -> None:
        """Add a line of an earlier file."""
        self._lines.append(_encodable(json.dumps(row, ensure_ascii=False)).encode() + b"\n")

    def content(self) -> bytes:
        """The file."""
        return b"".join(self._lines)

    @classmethod
    def stored_rows(cls, content: bytes) -> Iterator[dict[str, Any]]:
        """The lines of a file, for ``add_stored``."""
        for line in content.splitlines():
            yield json.loads(line)

    @classmethod
    def images(cls, content: bytes) -> Iterator[tuple[str, str, str | None]]:
        """Key, name and error, if any, of each image of a file."""
        for row in cls.stored_rows(content):
            yield row["key"], row["source"], row.get("error")


PARTS: tuple[type[ParquetPart | JsonLinesPart], ...] = (ParquetPart, JsonLinesPart)


def part_of(key: str) -> type[ParquetPart | JsonLinesPart]:
    """The kind of part file that ``--format`` names."""
    return next(each for each in PARTS if each.key == key)


def _encodable(text: str) -> str:
    r"""``text`` with an escape such as ``\udcff`` for each byte of a file's name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class StoredRow:
    """A row of a Parquet part as detections.

    Attributes:
        image: its name.
        size: (height, width) in pixels.
    """

    image: str
    size: tuple[int, int]
    detections: Detections


def stored_detections(content: bytes, names: tuple[str, ...], category_ids: tuple[int, ...]) -> Iterator[StoredRow]:
    """The rows of a Parquet part that have no error.

    Args:
        content: the file.
        names: class names by label, of the weights that the rows are from.
        category_ids: of these weights.
    """
    import numpy as np

    for row in ParquetPart.stored_rows(content):
        if row["error"] is None:
            boxes = np.array(row["boxes"], np.float32).reshape(-1, 4)
            found = Detections(boxes, np.array(row["scores"]), np.array(row["labels"]), names, category_ids)
            yield StoredRow(row["image"], (row["height"], row["width"]), found)
