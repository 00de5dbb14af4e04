"""Tables of the results of a study, compared with the paper's."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.paper import PAPER_TABLES, PaperTable
from studies.rows import ComparedRow, Measured
from studies.study_plan import Study, load_study, read_settings
from studies.study_run import RESULTS
from yolofpn.errors import UserError
from yolofpn.evaluation.coco import NO_OBJECTS
from yolofpn.extras import skipped_plots
from yolofpn.files import write_atomically, write_errors
from yolofpn.text import command

DASH = "-"


def compare(output: Path) -> int:
    """Print and write the tables of the results that are there, and draw them; the exit code.

    Raises:
        UserError: if the folder holds no study or no result yet, or cannot be written.
    """
    settings = read_settings(output)
    study = load_study(Path(str(settings["study"])))
    results = {name: read_results(output / name) for name in study.rows}
    if not any(results.values()):
        raise UserError(f"{output}: no row has a result yet: {command('study')} run ... --output {output}")
    tables = [(PAPER_TABLES[name], compare_table(study, results, PAPER_TABLES[name])) for name in study.tables]
    text = "\n\n".join(format_table(table, rows) for table, rows in tables) + "\n"
    print(text)
    write_atomically(output / "table.md", text.encode())
    if lines := skipped_plots("matplotlib"):
        print("\n".join([str(output / "table.md"), *lines]))
        return 0
    from studies.study_plots import plot_tables

    plot = output / "table.png"
    with write_errors(plot):
        plot_tables(plot, study.title, tables)
    print(f"{output / 'table.md'}, {plot}")
    return 0


def read_results(folder: Path) -> dict[int, dict[str, Any]]:
    """The metrics of a row, by seed.

    Raises:
        UserError: if a file is damaged.
    """
    results = {}
    for path in sorted(folder.glob(f"seed-*/{RESULTS}")):
        try:
            results[int(path.parent.name.removeprefix("seed-"))] = json.loads(path.read_text())
        except ValueError:
            raise UserError(f"{path}: is damaged: remove it and run the study again") from None
    return dict(sorted(results.items()))


def compare_table(study: Study, results: dict[str, dict[int, dict[str, Any]]], table: PaperTable) -> list[ComparedRow]:
    """The rows of one table."""
    return [
        ComparedRow(
            row.title,
            tuple(results[name]),
            tuple(_measured(list(results[name].values()), column, table) for column in table.columns),
            row.paper_row,
            table.rows.get(row.paper_row or "", (None,) * len(table.columns)),
        )
        for name, row in study.rows.items()
        if row.table is None or PAPER_TABLES[row.table] == table
    ]


def _measured(runs: Sequence[dict[str, Any]], column: str, table: PaperTable) -> Measured | None:
    values = [(run["proposals"] if table.of_proposals else run)[column] for run in runs]
    if not values or NO_OBJECTS in values:
        return None
    spread = 100 * statistics.stdev(values) if len(values) > 1 else None
    return Measured(100 * statistics.fmean(values), spread)


def format_table(table: PaperTable, rows: Sequence[ComparedRow]) -> str:
    """A Markdown table: each system's figures, and below them the paper's where it has that system."""
    head = ["system", "seeds", *table.columns]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        lines.append([row.title, str(len(row.seeds)), *(DASH if each is None else str(each) for each in row.measured)])
        if row.paper_row is not None:
            printed = (DASH if value is None else f"{value:.1f}" for value in row.paper)
            lines.append([f"paper, ({row.paper_row})", "", *printed])
    source = f"{table.title}, in per cent; the paper's: {table.source} (ResNet-50, COCO)"
    return "\n".join([source, "", *(f"| {' | '.join(cells)} |" for cells in lines)])
