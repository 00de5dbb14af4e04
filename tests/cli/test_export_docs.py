"""The examples of docs/export.md run as they stand."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.tiny_detector import GREEN, RED, quarters

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def example(language: str, library: str) -> str:
    """The one of that language which uses that library."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found: str
    (found,) = (block for block in blocks if library in block)
    return found


def take(graph: Path) -> None:
    shutil.copy(graph, "best.onnx")
    shutil.copy(graph.parent / "labels.txt", "labels.txt")


def test_onnx_runtime_without_this_package(layouts: dict[str, Path], in_own_folder: Path, capsys: Any) -> None:
    take(layouts["decoded"])
    cv2.imwrite("dog.jpg", quarters(RED, GREEN, height=64, width=128))
    capsys.readouterr()
    exec(compile(example("python", "onnxruntime"), str(PAGE), "exec"), {})
    lines = sorted(capsys.readouterr().out.splitlines())
    assert len(lines) == 2
    for line, name, corners in zip(lines, ("potted plant", "red"), ((64, 0, 128, 32), (0, 0, 64, 32)), strict=True):
        assert line.startswith(f"{name} ")
        score, *box = map(float, line.removeprefix(name).split())
        assert score > 0.9 and box == pytest.approx(corners, abs=0.1)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_onnxruntime_web_in_a_browser(layouts: dict[str, Path], in_own_folder: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    from tests.demo.browser import QUIET, START, find_browser

    folders = os.environ.get("NODE_PATH", "").split(os.pathsep)
    library = next((path for each in folders if (path := Path(each) / "onnxruntime-web" / "dist").is_dir()), None)
    if library is None:
        pytest.skip("npm install onnxruntime-web, and set NODE_PATH to its node_modules")
    take(layouts["end2end"])
    for file in (library / "ort.min.js", *library.glob("ort-wasm-simd-threaded*")):
        Path(file.name).symlink_to(file)
    Path("index.html").write_text(f"<!doctype html>\n{example('html', 'ort.min.js')}")
    draw = """([width, height]) => {
        const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
        context.fillRect(0, 0, width, height);
        context.fillStyle = "rgb(255, 0, 0)";
        context.fillRect(0, 0, 32, 32);
        return detect(canvas);
    }"""
    with served(in_own_folder) as address, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(QUIET), timeout=START)
        page = browser.new_page()
        page.goto(f"{address}/index.html")
        page.set_default_timeout(START)
        (found,) = page.evaluate(draw, [64, 64])
        browser.close()
    assert [found[key] for key in ("x1", "y1", "x2", "y2")] == pytest.approx([0, 0, 32, 32], abs=0.1)
    assert found["label"] == 0 and found["score"] == pytest.approx(0.9999, abs=1e-3)
