"""Detects in the images of a unit and writes their part file."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from yolofpn.addresses import shown
from yolofpn.engines.part_files import JsonLinesPart, ParquetPart, part_of
from yolofpn.engines.storage import join, read_bytes, write_bytes
from yolofpn.engines.unit_sources import ImageReading
from yolofpn.engines.units import Unit
from yolofpn.inference.load_detector import LoadedDetector
from yolofpn.inference.pipeline import results_of
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import PredictorOptions
from yolofpn.inference.threads import share_processors
from yolofpn.results import Failure
from yolofpn.sources.kinds import Source, failed_source

MESSAGES = 3  # of failed images, that a report holds; the part file has all of them
DEADLY = "ends the process that detects in it; write it anew with another program"
LARGEST_PART = 2**32  # bytes, of a tar with very many images


@dataclass(frozen=True)
class UnitReport:
    """What came of a unit.

    Attributes:
        name: of the unit.
        images: number of images with a row that has no error, among those that were looked at.
        failed: number of images that could not be used.
        messages: of the first of these.
        classes: number of detections by class name.
        peak: most memory of the worker so far, in bytes.
        seconds: that it took.
        worker: number of the worker's process.
        fatal: an error that would be the same for every unit; nothing was written.
    """

    name: str
    images: int = 0
    failed: int = 0
    messages: tuple[str, ...] = ()
    classes: dict[str, int] = field(default_factory=dict)
    peak: int = 0
    seconds: float = 0.0
    worker: int = field(default_factory=os.getpid)
    fatal: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class UnitDetector:
    """One predictor, for units one after the other.

    Args:
        loaded: the weights.
        options: how they are run.
        batch_size: images of a batch.
        output: folder or address of the part files.
        form: key of their format.

    Raises:
        UserError: the options do not fit the weights or this machine.
    """

    def __init__(
        self, loaded: LoadedDetector, options: PredictorOptions, *, batch_size: int, output: str, form: str
    ) -> None:
        self._predictor = Predictor(loaded.detector, loaded.metadata, replace(options, workload="many"))
        share_processors(self._predictor)
        self._reading = ImageReading(self._predictor.depth, self._predictor.needed_size)
        self._batch_size = batch_size
        self._output = output
        self._form = part_of(form)

    @property
    def backend_note(self) -> str:
        """Which backend runs the network, and why."""
        return self._predictor.backend_note

    def run(self, unit: Unit, deadly: Collection[int] = ()) -> UnitReport:
        """Detect in the images of ``unit``; then its part file is there as a whole.

        A bad image becomes a row with its error.

        Args:
            unit: the images.
            deadly: numbers, from 0 and as of ``try_each``, of those that are not decoded: they would end this process.

        Raises:
            UserError: the part file cannot be written, or the network does not work.
        """
        start = time.perf_counter()
        place = join(self._output, unit.name + self._form.suffix)
        part = self._form()
        if unit.again is None:
            images, failures, classes = self._detect(part, unit, range(len(unit.listed)), [], deadly)
        else:
            rows = list(self._form.stored_rows(read_bytes(place, LARGEST_PART)))
            images, failures, classes = self._detect(part, unit, unit.again, rows, deadly)
        write_bytes(place, part.content())
        return UnitReport(
            unit.name,
            images,
            len(failures),
            tuple(failures[:MESSAGES]),
            dict(classes),
            peak_memory(),
            time.perf_counter() - start,
        )

    def try_each(self, unit: Unit, first: int, begins: Callable[[int], object]) -> None:
        """Detect in one image of ``unit`` after the other, from number ``first`` on, and drop what is found.

        Args:
            unit: the images; those that are to be tried again, if there are such.
            first: number, from 0.
            begins: is called with the number of each image before it is read; of a tar, before it is decoded.

        Raises:
            UserError: the network does not work.
        """
        number = 0
        for index in range(len(unit.listed)) if unit.again is None else unit.again:
            listed = unit.listed[index]
            if listed.kind == "tar":
                for number, (_, source) in enumerate(self._reading.sources([listed])):
                    if number >= first:
                        begins(number)
                        self._try(iter([source]))
                continue
            if number >= first:
                begins(number)
                self._try(source for _, source in self._reading.sources([listed]))
            number += 1

    def _try(self, sources: Iterator[Source]) -> None:
        with closing(results_of(sources, self._predictor)) as results:
            for _ in results:
                pass

    def _detect(
        self,
        part: ParquetPart | JsonLinesPart,
        unit: Unit,
        wanted: Sequence[int],
        stored: list[dict[str, Any]],
        deadly: Collection[int],
    ) -> tuple[int, list[str], Counter[str]]:
        """Add all rows in order: ``wanted`` of the unit's images anew, and what is stored of the others."""
        listed = [unit.listed[index] for index in wanted]
        for number, each in enumerate(listed):
            if number in deadly and each.kind == "image":  # of some formats already the look at the head may be deadly
                listed[number] = replace(each, kind="failed", message=f"{shown(each.uri)}: {DEADLY}")
        started: deque[tuple[str, Source]] = deque()
        images, failures, classes = 0, list[str](), Counter[str]()
        indices = iter(wanted)

        def sources() -> Iterator[Source]:
            for number, (key, source) in enumerate(self._reading.sources(listed)):
                if number in deadly:
                    source = failed_source(source.name, f"{source.name}: {DEADLY}")
                started.append((key, source))
                yield source

        copied = 0
        # One result or failure for each source, in their order.
        with closing(results_of(sources(), self._predictor, batch_size=self._batch_size)) as results:
            for result in results:
                index = next(indices, len(stored))
                for row in stored[copied:index]:
                    part.add_stored(row)
                copied = index + 1
                key, source = started.popleft()
                if isinstance(result, Failure):
                    failures.append(result.message)
                    part.add_failed(key, source.name, result.message)
                else:
                    images += 1
                    classes.update(result.detections.counts())
                    part.add(key, result.frame, result.detections)
        for row in stored[copied:]:
            part.add_stored(row)
        return images, failures, classes


def peak_memory() -> int:
    """Bytes of memory that this process has held at most; 0 on Windows, which does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
