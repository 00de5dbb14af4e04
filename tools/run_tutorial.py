"""Runs docs/tutorial.ipynb from its first cell and keeps what it prints and shows, for readers who do not run it.

    python tools/run_tutorial.py                 # writes the outputs into the notebook; a minute on two idle CPU cores

The notebook is stored with its outputs, because most people read it on a site that does not execute it. Its files go
into a temporary home folder, whose name is replaced in the outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"
READERS_HOME = "/home/you"
PROGRESS = re.compile(r"^epoch \d+/\d+: (?!.* AP ).*\n", re.MULTILINE)
TIMEOUT = 3600  # seconds for a cell, on a busy machine


def main() -> None:
    """Execute the notebook in place."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=NOTEBOOK, help="where to write it; default: in place")
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as home:
        notebook = run(Path(home))
        tidy(notebook, home)
    nbformat.write(notebook, output)  # type: ignore[no-untyped-call]


def run(home: Path, **environment: str) -> NotebookNode:
    """Execute all cells in a fresh kernel; return the notebook with its outputs.

    Args:
        home: the home folder of the kernel.
        environment: further variables of the kernel.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(home)}})
    client.execute(env={**os.environ, "HOME": str(home), **environment})
    return notebook


def tidy(notebook: NotebookNode, home: str) -> None:
    """Remove paths of this machine, times of execution, stderr, and the lines of epochs without an AP."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        shown = [output for output in cell.outputs if output.output_type != "stream"]
        text = PROGRESS.sub("", printed.replace(home, READERS_HOME).replace(f"{NOTEBOOK.parents[1]}{os.sep}", ""))
        stream = NotebookNode(output_type="stream", name="stdout", text=text)  # type: ignore[no-untyped-call]
        cell.outputs = [stream, *shown] if text else shown
    notebook.metadata.pop("language_info", None)


if __name__ == "__main__":
    main()
