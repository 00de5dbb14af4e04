"""Fixtures that several tests share.

pytest-xdist's main process reads this file, too, and runs no test: what takes long to import is imported by fixtures.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.machine import small_disk, virtual_display
from tests.once import made_once
from tests.operator_tables import keep_tables

SUFFIXES = {"weights": "safetensors", "onnx": "onnx", "openvino": "xml"}
__all__ = ["small_disk", "virtual_display"]  # fixtures

# A busy machine makes single examples slow; how long one takes says nothing of whether it is right.
settings.register_profile("yolofpn", deadline=None, max_examples=50)
settings.load_profile("yolofpn")


def pytest_configure() -> None:
    """Let Ctrl-C reach the code under test: pytest-xdist's workers ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until all tests are collected: modules and tests stay for the whole session


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make, not at a million objects of libraries each time."""
    gc.enable()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """No export but the first waits for tables of all operators."""
    keep_tables()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What earlier runs left in the user's cache must not decide what a test sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOFPN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """A conversion that an earlier test left running keeps the logs of libraries down: wait for its end."""
    from tests.inference.live_fakes import until

    until(lambda: logging.root.manager.disable < logging.WARNING)
    return caplog


@pytest.fixture(scope="session", autouse=True)
def no_graphs_beside() -> Iterator[None]:
    """No test has a graph converted in a process beside it, which takes longer than most tests, unless it asks for."""
    from yolofpn.runtimes import takeover

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(takeover, "PATIENCE", float("inf"))
        yield


@pytest.fixture(scope="session", autouse=True)
def blank_plots() -> Iterator[None]:
    """No test waits for curves that it does not look at."""
    from matplotlib.figure import Figure

    from tests.plots import BLANK

    with pytest.MonkeyPatch.context() as patch:
        for name, function in BLANK.items():
            patch.setattr(Figure, name, function)
        yield


@pytest.fixture
def drawn_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at them."""
    from matplotlib.figure import Figure

    from tests.plots import DRAWN

    for name, function in DRAWN.items():
        monkeypatch.setattr(Figure, name, function)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images, videos, annotations and weights: YOLOFPN_TEST_DATA, by default ../shared/data."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    directory = Path(os.environ.get("YOLOFPN_TEST_DATA", default))
    if not directory.is_dir():
        reason = f"no test data at {directory}: set YOLOFPN_TEST_DATA to the folder that holds it"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return directory


@pytest.fixture(scope="session")
def tiny_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of 64x48 at 10 per second; frame i has the shade 10 * (i + 1)."""
    from tests.videos import shades, write_video

    return write_video(tmp_path_factory.mktemp("videos") / "tiny.mp4", shades(12))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Darknet weights of a detector of colours, with cfg and names beside them; for reading only."""
    from tests.tiny_detector import write_tiny

    return write_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``small_detector`` as written by ``export.py``: ONNX for two images at a time, OpenVINO for any number.

    The folder holds these alone; for reading only.
    """
    from tests.runtimes.small import small_detector
    from yolofpn.cli.export import main as export
    from yolofpn.weights import save_weights

    names = {name: f"small.{suffix}" for name, suffix in SUFFIXES.items()}
    asked = {"onnx": ["--batch", "2"], "openvino": ["--batch", "dynamic", "--precision", "fp32"]}

    def make(folder: Path) -> None:
        weights = folder / names["weights"]
        detector, metadata = small_detector()
        save_weights(weights, detector.state_dict(), metadata)
        for kind, words in asked.items():
            assert export(["--weights", str(weights), "--format", kind, *words, str(folder / names[kind])]) == 0

    folder = made_once(tmp_path_factory, "exported", make)
    return {kind: folder / name for kind, name in names.items()}


@pytest.fixture(scope="session")
def tiny_graph(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of colours as an ONNX graph, with which a process needs no PyTorch; for reading only."""

    from yolofpn.cli.export import main as export

    def make(folder: Path) -> None:
        assert export(["--weights", str(weights), "--format", "onnx", str(folder / "tiny.onnx")]) == 0

    return made_once(tmp_path_factory, "tiny-graph", make) / "tiny.onnx"


@pytest.fixture
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def good_image(in_own_folder: Path) -> Path:
    """``good.png`` in the working folder, which shows one red object."""
    import cv2

    from tests.tiny_detector import RED, quarters

    cv2.imwrite("good.png", quarters(RED))
    return in_own_folder / "good.png"
