"""Images that end the process that detects in them, as a damaged one may in a decoder: found, and left out.

A unit whose worker died is started again, as machines and processes do get lost. From the third start on its images are
first tried one after the other in a process of its own, which tells which it begins.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from yolofpn.addresses import shown
from yolofpn.engines.job import Job
from yolofpn.engines.listing import Listed
from yolofpn.engines.unit_detector import UnitDetector, UnitReport
from yolofpn.engines.units import Unit
from yolofpn.engines.weights_files import WeightsFiles

TRIED = 3  # the start from which on images are tried
GIVEN_UP = 5  # the start in which all images of a unit become rows with an error

Trial = Callable[[int, Connection], None]


@dataclass(frozen=True)
class ImageTrial:
    """Detects in the images of a unit one after the other, from one of them on; to be run in a process of its own.

    Attributes:
        job: the run.
        weights: whose files are in this machine's cache folder.
        unit: the images.
    """

    job: Job
    weights: WeightsFiles
    unit: Unit

    def __call__(self, first: int, began: Connection) -> None:
        """Send the index of each image before it is read."""
        self.job.enter_folder()
        detector = UnitDetector(
            self.weights.load(), self.job.options, batch_size=1, output=self.job.output, form=self.job.form
        )
        detector.try_each(self.unit, first, began.send)


def run_start(detector: UnitDetector, unit: Unit, start: int, trial: Trial) -> UnitReport:
    """Detect in a unit, and take care if it may end the process.

    Args:
        detector: of this process.
        unit: the images.
        start: 1 for the first attempt at this unit, 2 for the second, ...
        trial: of this unit.

    Raises:
        UserError: as ``UnitDetector.run``.
    """
    if start >= GIVEN_UP:
        return detector.run(replace(unit, listed=tuple(_given_up(each, start - 1) for each in unit.listed)))
    return detector.run(unit, deadly_images(trial) if start >= TRIED else frozenset())


def deadly_images(trial: Trial) -> frozenset[int]:
    """The indices of the images at which the process of ``trial`` ends by a signal or the like.

    An error of Python's is none of these: it is met again, and told, where the unit is detected in.
    """
    context = multiprocessing.get_context("spawn")
    found: set[int] = set()
    first = 0
    while True:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=trial, args=(first, sending), daemon=True)
        process.start()
        sending.close()
        last: int | None = None
        with receiving, suppress(EOFError, OSError):
            while True:
                last = receiving.recv()
        process.join()
        if process.exitcode in (0, 1) or last is None:
            return frozenset(found)
        found.add(last)
        first = last + 1


def _given_up(listed: Listed, times: int) -> Listed:
    message = f"{shown(listed.uri)}: the process that detects in it and its neighbours ended {times} times; "
    return Listed(listed.uri, "failed", message + "detect in it without --engine")
