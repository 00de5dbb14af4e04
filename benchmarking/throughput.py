"""``benchmark.py --throughput``: whole runs of ``detect.py --media none``, and the network alone.

Every run over a folder or a video is a process of its own, as users start it, whose report says its images per second
without its start-up. The runs take turns with each other and with the network alone, which has one more process: the
ratios are those of one machine in one state. A first run, which is not counted, compiles modules and fills the caches.
"""

from __future__ import annotations

import hashlib
import re
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.start import ROOT, Usage, check_clone, run_and_read
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor import Predictor
from yolofpn.inference.predictor_options import PredictorOptions, expected_workload
from yolofpn.inference.threads import share_processors
from yolofpn.runtimes.backend import Wait

NETWORK_SECONDS = 3.0
WARM_UP = 5  # passes
_REPORTED = re.compile(r"([\d.]+) FPS network, ([\d.]+) FPS end to end")
_DONE = re.compile(r"^(.*): found ", re.MULTILINE)
_COUNT = re.compile(r"([\d,]+) (?:image|frame)s?\b")


@dataclass
class ThroughputRow:
    """Runs over one source with one file of weights.

    Attributes:
        source: a folder or a video.
        weights: 'auto' or a file.
        program: 'this clone' or the folder of another one.
        images: of the source, frames included.
        end_to_end_fps: images per second of each run.
        network_fps: images per second of the network alone, in each round.
        runs: what they cost, start-up included.
    """

    source: str
    weights: str
    program: str
    images: int = 0
    end_to_end_fps: list[float] = field(default_factory=list)
    network_fps: list[float] = field(default_factory=list)
    runs: list[Usage] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Medians, beside what they are medians of."""
        network = statistics.median(self.network_fps)
        fps = statistics.median(self.end_to_end_fps)
        return {
            "source": self.source,
            "weights": self.weights,
            "program": self.program,
            "images": self.images,
            "network_fps": network,
            "end_to_end_fps": fps,
            "share_of_network": fps / network,
            "cpu_ms_per_image": 1e3 * statistics.median(run.cpu for run in self.runs) / max(self.images, 1),
            "peak_mb": statistics.median(run.memory for run in self.runs) / 1e6,
            "rounds": {"network_fps": self.network_fps, "end_to_end_fps": self.end_to_end_fps},
        }


def measure_throughput(
    weights: Sequence[str], sources: Sequence[str], against: Path | None, rounds: int
) -> list[dict[str, Any]]:
    """The rows of the table, by source and weights, this clone first.

    Args:
        weights: of ``detect.py``; by default what it takes by itself.
        sources: folders and videos, each of which is run over alone.
        against: another clone of this project, which runs as its users run it.
        rounds: runs of each.

    Raises:
        UserError: a run fails, or ``against`` is no clone.
    """
    clones = {"this clone": ROOT}
    if against is not None:
        clones[str(against)] = check_clone(against)
    rows = []
    with tempfile.TemporaryDirectory() as bytecode:
        compiled = Path(bytecode)
        for source in sources:
            for each in weights or ("auto",):
                own = [ThroughputRow(source, each, name) for name in clones]
                for turn in range(rounds + 1):
                    rate = _network_alone(each, source, compiled)
                    for row, clone in zip(own, clones.values(), strict=True):
                        fps, used = _whole_run(row, clone, compiled)
                        if turn:
                            row.network_fps.append(rate)
                            row.end_to_end_fps.append(fps)
                            row.runs.append(used)
                rows += [row.to_json() for row in own]
    return rows


def network_fps(weights: str, source: str, seconds: float = NETWORK_SECONDS) -> float:
    """Images per second of the network alone, as ``detect.py`` opens it for this source, with all CPUs for itself."""
    options = PredictorOptions(workload=expected_workload((source,)))
    loaded = load_for_inference(weights, options=options)
    predictor = Predictor(loaded.detector, loaded.metadata, options)
    share_processors(predictor)
    predictor.settle()
    form = loaded.metadata.input.form
    values = np.random.default_rng(0).integers(0, 256, (1, form.channels, *predictor.img_size), np.uint8)
    batch = values.astype(np.float32) if form.is_float else values
    start = partial(predictor.backend.start, batch)
    _passes(start, predictor.slots, lambda count: count >= WARM_UP)
    begin = time.perf_counter()
    count = _passes(start, predictor.slots, lambda _: time.perf_counter() - begin >= seconds)
    return count / (time.perf_counter() - begin)


def _passes(start: Callable[[], Wait], slots: int, enough: Callable[[int], bool]) -> int:
    """Run batches, ``slots`` of them at once, until there are enough; return how many."""
    in_flight: deque[Wait] = deque()
    count = 0
    while not enough(count):
        in_flight.append(start())
        if len(in_flight) >= slots:
            in_flight.popleft()()
            count += 1
    for wait in in_flight:
        wait()
    return count + len(in_flight)


def _network_alone(weights: str, source: str, compiled: Path) -> float:
    where = weights if weights == "auto" else str(Path(weights).resolve())
    words = f"{where!r}, {str(Path(source).resolve())!r}"
    program = f"from benchmarking.throughput import network_fps\nprint(network_fps({words}))"
    _, printed = run_and_read([sys.executable, "-c", program], ROOT, _folder_of(ROOT, compiled), compiled)
    return float(printed.split()[-1])


def _whole_run(row: ThroughputRow, clone: Path, compiled: Path) -> tuple[float, Usage]:
    words = ["detect", str(Path(row.source).resolve()), "--media", "none"]
    words += [] if row.weights == "auto" else ["--weights", str(Path(row.weights).resolve())]
    folder = _folder_of(clone, compiled)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        words += ["--output", output]
        program = f"from yolofpn.__main__ import main\nraise SystemExit(main({words!r}))"
        used, printed = run_and_read([sys.executable, "-c", program], clone, folder, compiled)
    reported, done = _REPORTED.search(printed), _DONE.search(printed)
    if reported is None or done is None:
        raise UserError(f"{clone}: reported no speed: is it a clone of this project?")
    row.images = sum(int(number.replace(",", "")) for number in _COUNT.findall(done[1]))
    return float(reported[2]), used


def _folder_of(clone: Path, compiled: Path) -> Path:
    """Where a clone's caches are kept from run to run."""
    folder = compiled / f"of-{hashlib.sha256(str(clone).encode()).hexdigest()[:8]}"
    folder.mkdir(exist_ok=True)
    return folder
