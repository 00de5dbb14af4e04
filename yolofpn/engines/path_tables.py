"""Paths of images in a column of a Parquet or CSV file, read in pieces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from yolofpn.addresses import local_path, shown
from yolofpn.engines.reading_on import read_on
from yolofpn.engines.storage import open_stream
from yolofpn.errors import UserError

TABLE_SUFFIXES = (".parquet", ".csv")
DEFAULT_COLUMNS = (
    "image",
    "path",
    "uri",
    "url",
    "file",
    "filename",
    "file_name",
    "image_path",
    "image_url",
    "filepath",
)
ROWS = 4096  # that are read at once


def table_paths(uri: str, column: str | None = None) -> Iterator[str]:
    """The values of one column, in order; empty ones are skipped.

    Args:
        uri: of a ``.parquet`` or ``.csv`` file with a head line.
        column: its name; by default the first of ``DEFAULT_COLUMNS`` that is there, else the only column.

    Raises:
        InputError: it cannot be read, or is damaged.
        UserError: there is no such column.
    """
    read = _parquet if uri.lower().partition("?")[0].endswith(".parquet") else _csv
    # Errors of the content are ValueErrors of pyarrow, or OSErrors where it is a local file.
    damaged = (ValueError, csv.Error, *((OSError,) if local_path(uri) is not None else ()))
    for value in read_on(uri, lambda: read(uri, column), damaged, what="rows"):
        if value is not None and value.strip():
            yield value.strip()


def _parquet(uri: str, column: str | None) -> Iterator[str | None]:
    import pyarrow
    import pyarrow.parquet

    with open_stream(uri) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        name = choose_column(file.schema_arrow.names, column, uri)
        for batch in file.iter_batches(ROWS, columns=[name]):
            values = batch.column(0)
            if not (pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type)):
                raise UserError(f"{shown(uri)}: column {name!r} holds {values.type}, not paths: choose with --column")
            yield from values.to_pylist()


def _csv(uri: str, column: str | None) -> Iterator[str | None]:
    with open_stream(uri) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
        rows = csv.reader(text)
        head = next(rows, [])
        index = head.index(choose_column(head, column, uri))
        for row in rows:
            yield row[index] if index < len(row) else None


def choose_column(names: Sequence[str], column: str | None, uri: str) -> str:
    """The column of the paths.

    Raises:
        UserError: there is none of that name, or none is given and it cannot be told.
    """
    if column is not None:
        if column not in names:
            raise UserError(f"{shown(uri)}: has no column {column!r}: choose from {', '.join(names)} with --column")
        return column
    lower = {name.lower(): name for name in reversed(names)}
    found = next((lower[each] for each in DEFAULT_COLUMNS if each in lower), None)
    if found is None and len(names) == 1:
        return names[0]
    if found is None:
        raise UserError(f"{shown(uri)}: which column has the paths? Give --column, one of {', '.join(names)}")
    return found
