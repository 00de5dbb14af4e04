"""The tables of a study as one image of bars."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.paper import PaperTable
from studies.rows import ComparedRow
from yolofpn.files import replace_file

DPI = 120
BAR = 0.4


def plot_tables(path: Path, title: str, tables: Sequence[tuple[PaperTable, Sequence[ComparedRow]]]) -> None:
    """Plot AR1000 or AP of every row and the paper's; thin lines show the standard deviation over the seeds.

    Args:
        path: the PNG to write.
        title: of the whole.
        tables: one panel each.
    """
    figure = Figure(figsize=(10, 1 + 4 * len(tables)), dpi=DPI, layout="constrained")
    figure.suptitle(title)
    all_axes = figure.subplots(len(tables), squeeze=False)[:, 0]
    for axes, (table, rows) in zip(all_axes, tables, strict=True):
        _draw(axes, table, rows)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    replace_file(path, buffer.getvalue())


def _draw(axes: Axes, table: PaperTable, rows: Sequence[ComparedRow]) -> None:
    column = "AR1000" if table.of_proposals else "AP"
    place = table.columns.index(column)
    for number, row in enumerate(rows):
        measured, printed = row.measured[place], row.paper[place]
        label = ("measured", f"paper, {table.source}") if number == 0 else (None, None)
        height = 0.0 if measured is None else measured.mean
        spread = 0.0 if measured is None else measured.spread or 0.0
        axes.bar(number - BAR / 2, height, BAR, yerr=spread, color="tab:blue", label=label[0])
        axes.bar(number + BAR / 2, printed or 0.0, BAR, color="0.75", label=label[1])
    axes.set_xticks(range(len(rows)), [row.title for row in rows], rotation=20, ha="right", fontsize=8)
    axes.set(title=table.title, ylabel=f"{column} [%]")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.margins(y=0.2)  # room for the legend above the highest bar
    axes.legend(frameon=False, loc="upper center", ncols=2)
