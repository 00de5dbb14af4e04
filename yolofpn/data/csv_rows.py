"""CSV files that other programs wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolofpn.errors import UserError
from yolofpn.reading import MAX_TEXT_BYTES, ParseError, read_bounded


def read_cells(path: Path) -> Iterator[list[str]]:
    """The rows of a file that are not empty.

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
    """The rows of a file with a heading, by column; cells that a row lacks are empty.

    Args:
        path: the file.
        columns: those that it must have.

    Raises:
        UserError: as ``read_cells``, or it has not these columns.
    """
    rows = read_cells(path)
    heading = [cell.strip().lstrip("#") for cell in next(rows, [])]
    if missing := [column for column in columns if column not in heading]:
        raise UserError(f"{path}: has no column {missing[0]!r}: its columns are {', '.join(heading)[:200]}")
    for cells in rows:
        yield dict(zip(heading, [*cells, *[""] * len(heading)], strict=False))
