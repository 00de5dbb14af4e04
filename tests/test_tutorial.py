"""docs/tutorial.ipynb: it runs, its stored outputs are those of its code, and its page detects in a browser."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode

from tests.cli.test_export_docs import served
from tools import run_tutorial
from tools.run_tutorial import NOTEBOOK, READERS_HOME, run, tidy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def execute_here(notebook: NotebookNode) -> None:
    """As a kernel does it, but in this process, which has imported all that the cells import."""
    hook = sys.excepthook
    try:
        shell: Any = InteractiveShell.instance()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                with capture_output() as caught:
                    shell.run_cell(cell.source).raise_error()
                text = [{"output_type": "stream", "name": "stdout", "text": caught.stdout}] if caught.stdout else []
                shown = [{"output_type": "display_data", "data": each.data} for each in caught.outputs]
                cell.outputs = [nbformat.from_dict(each) for each in (*text, *shown)]  # type: ignore[no-untyped-call]
    finally:
        InteractiveShell.clear_instance()
        sys.excepthook = hook


@pytest.fixture(scope="module")
def executed(home: Path) -> NotebookNode:
    notebook: NotebookNode = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistoryManager, "enabled", False)  # it would write into the user's home
        patch.chdir(home)
        patch.setenv("HOME", str(home))
        patch.setenv("YOLOFPN_TUTORIAL", "quick")
        patch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
        patch.setattr("yolofpn.training.precision.SIDE", 32)  # which one is faster nobody asks
        execute_here(notebook)
    tidy(notebook, str(home))
    return notebook


def printed(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", ()))


def kinds(cell: NotebookNode) -> list[str]:
    return [output.output_type for output in cell.get("outputs", ()) if output.output_type != "stream"]


def test_it_runs_from_the_first_cell_to_the_last(executed: NotebookNode, home: Path) -> None:
    work = home / "yolofpn-tutorial"
    assert {path.name for path in (work / "page").iterdir()} >= {"best.onnx", "index.html", "example.jpg"}
    assert (work / "run/weights.safetensors").is_file() and (work / "mistakes/index.html").is_file()
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert not any(str(home) in output.get("text", "") for output in outputs)


def test_the_tool_runs_cells_in_a_kernel_with_its_own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "from IPython.display import Image, display; display(Image(data=b'', format='png'))"
    sources = (
        "# A page",
        "import os; home = os.environ['HOME']",
        f"print(home, os.getpid(), os.environ['NAME']); {show}",
    )
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "id": "0", "metadata": {}, "source": sources[0]}]
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells += [{**code, "id": str(number), "source": sources[number]} for number in (1, 2)]
    page = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    (tmp_path / "page.ipynb").write_text(json.dumps(page))
    monkeypatch.setattr(run_tutorial, "NOTEBOOK", tmp_path / "page.ipynb")
    (tmp_path / "home").mkdir()
    notebook = run(tmp_path / "home", NAME="quick")
    tidy(notebook, str(tmp_path / "home"))
    where, process, name = printed(notebook.cells[2]).split()
    assert (where, name) == (READERS_HOME, "quick") and int(process) != os.getpid()
    assert kinds(notebook.cells[2]) == ["display_data"]


def test_the_stored_notebook_has_the_outputs_of_its_cells(executed: NotebookNode) -> None:
    """Each cell has stored what it prints and shows when it is run, without paths of a machine."""
    stored = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    for cell, fresh in zip(stored.cells, executed.cells, strict=True):
        assert cell.source == fresh.source
        if "mistakes/images" not in cell.source:  # how many images there are depends on the training
            assert kinds(cell) == kinds(fresh)
        assert bool(printed(cell)) == bool(printed(fresh))
    assert not any("/tmp" in printed(cell) for cell in stored.cells)
    assert any(READERS_HOME in printed(cell) for cell in stored.cells)
    assert NOTEBOOK.stat().st_size < 1_500_000


def test_its_page_detects_in_a_browser(executed: NotebookNode, home: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    from tests.demo.browser import QUIET, START, find_browser

    folders = os.environ.get("NODE_PATH", "").split(os.pathsep)
    library = next((path for each in folders if (path := Path(each) / "onnxruntime-web" / "dist").is_dir()), None)
    if library is None:
        pytest.skip("npm install onnxruntime-web, and set NODE_PATH to its node_modules")
    page_folder = home / "yolofpn-tutorial" / "page"
    for file in (library / "ort.min.mjs", *library.glob("ort-wasm-simd-threaded*")):
        (page_folder / file.name).symlink_to(file)
    index = page_folder / "index.html"
    text = index.read_text()
    index.write_text(re.sub('const LIBRARY = ".*?"', 'const LIBRARY = "./"', text))
    with served(page_folder) as address, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(QUIET), timeout=START)
        page = browser.new_page()
        page.set_default_timeout(START)
        page.goto(f"{address}/index.html")
        page.wait_for_function("document.querySelector('#result').textContent.includes('found')")
        size = page.evaluate("[document.querySelector('canvas').width, document.querySelector('canvas').height]")
        browser.close()
    assert size == [416, 320]
