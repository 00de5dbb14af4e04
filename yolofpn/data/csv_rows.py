"""Reads CSV files of other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolofpn.errors import UserError
from yolofpn.reading import MAX_TEXT_BYTES, ParseError, read_bounded


def read_cells(path: Path) -> Iterator[list[str]]:
    """Yield the non-empty rows of a file.

    Raises:
        UserError: if it is missing, too large, or no table.
    """
    try:
        text = read_bounded(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a table (CSV)") from None
    except (ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as a table (CSV): {error}") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        yield from (cells for cells in rows if cells)
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}: not readable as a table (CSV): {error}") from None


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a file with a header, by column name; missing cells are empty.

    Args:
        path: the file.
        columns: required columns.

    Raises:
        UserError: as ``read_cells``, or it has not these columns.
    """
    rows = read_cells(path)
    heading = [cell.strip().lstrip("#") for cell in next(rows, [])]
    if missing := [column for column in columns if column not in heading]:
        raise UserError(f"{path}: has no column {missing[0]!r}: its columns are {', '.join(heading)[:200]}")
    for cells in rows:
        yield dict(zip(heading, [*cells, *[""] * len(heading)], strict=False))
