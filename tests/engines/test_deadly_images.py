"""Images that end the process that detects in them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import pytest

from tests.engines.dying import die_of_the_third, raise_at_once
from tests.tiny_detector import GREEN, RED, quarters
from tests.training.commands import PROCESSES
from yolofpn.engines.deadly_images import GIVEN_UP, TRIED, ImageTrial, deadly_images, run_start
from yolofpn.engines.job import Job
from yolofpn.engines.listing import list_images
from yolofpn.engines.unit_detector import UnitDetector
from yolofpn.engines.units import make_units
from yolofpn.engines.weights_files import pack_weights
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor_options import PredictorOptions

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes end otherwise on Windows")


def never(first: int, began: Connection) -> None:
    raise AssertionError("it is not tried")


class Killing(ImageTrial):
    """Dies of opening a file."""

    def __call__(self, first: int, began: Connection) -> None:
        def die(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open" and str(arguments[0]).endswith("deadly.png"):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        super().__call__(first, began)


@pytest.mark.slow
def test_processes_tell_what_they_die_of() -> None:
    assert deadly_images(die_of_the_third) == {2}
    assert deadly_images(raise_at_once) == frozenset()


@pytest.fixture
def job(in_own_folder: Path) -> Job:
    Path("in").mkdir()
    Path("out").mkdir()
    for name in ("a", "deadly", "z"):
        cv2.imwrite(f"in/{name}.png", quarters(RED, GREEN, height=64, width=96))
    return Job(("in",), None, ".", str(Path("out").absolute()), "jsonl", 4, 3, PredictorOptions(backend="torch"))


def errors() -> list[bool]:
    (part,) = Path("out").glob("part-*")
    return ["error" in json.loads(line) for line in part.read_text().splitlines()]


@pytest.mark.slow
def test_the_deadly_image_is_a_row_with_an_error(job: Job, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    # Of a server that has imported PyTorch; the test above starts processes as it is done elsewhere.
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_, **__: PROCESSES)
    files, contents = pack_weights(load_for_inference(weights))
    loaded = files.open([np.frombuffer(content, np.uint8) for content in contents])
    detector = UnitDetector(loaded, job.options, batch_size=4, output=job.output, form=job.form)
    (unit,) = make_units(list_images(job.sources), job.part_size)
    report = run_start(detector, unit, TRIED, Killing(job, files, unit))
    assert (report.images, report.failed) == (2, 1) and "deadly.png" in report.messages[0]
    assert errors() == [False, True, False]


def test_starts_are_counted(job: Job, weights: Path) -> None:
    detector = UnitDetector(load_for_inference(weights), job.options, batch_size=4, output=job.output, form=job.form)
    (unit,) = make_units(list_images(job.sources), job.part_size)
    assert run_start(detector, unit, TRIED - 1, never).failed == 0 and errors() == [False] * 3
    begun: list[int] = []
    detector.try_each(replace(unit, again=(0, 2)), 1, begun.append)
    assert begun == [1]
    assert run_start(detector, unit, GIVEN_UP, never).failed == 3 and errors() == [True] * 3
