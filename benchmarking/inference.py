"""Measures the speed of detection: stages, network alone and end to end, alternately for all candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from benchmarking.candidates import Candidate, OurCandidate, gflop
from benchmarking.machine import matrix_product, peak_memory, reset_peak_memory
from benchmarking.stages import Stages, end_to_end
from yolofpn.inference.threads import sharing_processors
from yolofpn.sources.resolve import Source
from yolofpn.tuning.rounds import Timing, interleave, timed

STAGE_SECONDS = 1.0
NETWORK_SECONDS = 1.0
END_TO_END_SECONDS = 10.0
FEWEST_FRAMES = 8
FEWEST_BATCHES = 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Work = Literal["stages", "network", "end to end", "matrix"]


@dataclass(frozen=True)
class InferenceRow:
    """The speed of one candidate; milliseconds are per image.

    Attributes:
        workload: what the backend got ready for; see ``choose_backend``.
        slots: batches that are in the network at once when it is timed alone.
        gflop: of the network's dense part for an image; None for a baseline.
        stages: Timing.to_json of each stage, one image or batch after the other.
        network_ms: median of the network alone, with as many batches in flight as pay off.
        network_fps: images per second of the same.
        end_to_end_fps: median of runs as detect.py does them, everything overlapping; None for a baseline.
        share_of_network: end_to_end_fps of network_fps.
        gflop_per_second: best of the network alone.
        share_of_peak: of the best product of two large matrices in the same precision; None where there is none.
        peak_memory: in MB, of the whole process, so of all candidates of a run.
        ap: AP and AP50 on the data set, if one was given.
        proposals: regions of an image that a second stage looks at, which it does in post-processing; else None.
    """

    weights: str
    backend: str
    precision: str
    img_size: tuple[int, int]
    batch_size: int
    workload: str
    slots: int
    gflop: float | None
    stages: dict[str, dict[str, float | int]]
    network_ms: float
    network_fps: float
    best_network_fps: float
    end_to_end_fps: float | None
    best_end_to_end_fps: float | None
    share_of_network: float | None
    gflop_per_second: float | None
    share_of_peak: float | None
    peak_memory: dict[str, float]
    ap: dict[str, float] = field(default_factory=dict)
    proposals: float | None = None

    def to_json(self) -> dict[str, object]:
        """Return the row as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class InferenceRun:
    """Settings shared by all candidates.

    Attributes:
        sources: images and videos.
        folder: for files that are soon removed.
        rounds: how often each takes its turn.
        frames: of an end-to-end run at most.
        device: where ours run.
    """

    sources: Sequence[Source]
    folder: Path
    rounds: int
    frames: int
    device: torch.device


def measure_inference(candidates: Sequence[Candidate], run: InferenceRun) -> list[InferenceRow]:
    """Let all candidates take turns: their stages, their networks, whole runs, and the machine's matrix products.

    Raises:
        UserError: if no source can be read, or the network's output is NaN.
    """
    reset_peak_memory(run.device)
    stages = [Stages(candidate, run.sources, run.folder) for candidate in candidates]
    tasks: dict[tuple[Work, int | str], Callable[[], Sequence[float]]] = {}
    for number, (candidate, own) in enumerate(zip(candidates, stages, strict=True)):
        own.turn(0)  # warms up
        own.clear()
        (per_image,) = own.turn(0)
        works: dict[Work, Callable[[], Sequence[float]]] = {
            "stages": partial(own.turn, STAGE_SECONDS),
            "network": partial(_network_turn, candidate),
        }
        if candidate.predictor is not None:
            frames = max(FEWEST_FRAMES, min(run.frames, int(END_TO_END_SECONDS / per_image)))
            frames = whole_batches(frames, candidate.batch_size)
            works["end to end"] = partial(
                lambda c, f: [end_to_end(c.predictor, run.sources, c.batch_size, f)], candidate, frames
            )
        tasks |= {(work, number): partial(_with_its_threads, candidate, do) for work, do in works.items()}
    products = {name: matrix_product(run.device, DTYPES[name]) for name in _precisions(candidates)}
    for name, (multiply, _) in products.items():
        tasks["matrix", name] = partial(timed, multiply, 0.2)
    timings = interleave(tasks, run.rounds)
    peaks = {name: product_gflop / timings["matrix", name].best for name, (_, product_gflop) in products.items()}
    memory = peak_memory(run.device)
    return [
        _row(candidate, own, timings["network", number], timings.get(("end to end", number)), peaks, memory)
        for number, (candidate, own) in enumerate(zip(candidates, stages, strict=True))
    ]


def whole_batches(frames: int, batch_size: int) -> int:
    """At least so many frames, and at least ``FEWEST_BATCHES``: one that is filled up costs as much as a full one."""
    return batch_size * max(FEWEST_BATCHES, -(-frames // batch_size))


def _with_its_threads(candidate: Candidate, work: Callable[[], Sequence[float]]) -> Sequence[float]:
    """Ours share the processors as in ``detect.py``; a baseline has them all."""
    predictor = candidate.predictor
    if predictor is None:
        return work()
    with sharing_processors(predictor):
        return work()


def _network_turn(candidate: Candidate) -> list[float]:
    """Return the mean seconds per image of several forward passes."""
    one = candidate.network_passes(2)
    passes = max(2, int(NETWORK_SECONDS / one))
    return [candidate.network_passes(passes) / candidate.batch_size]


def _precisions(candidates: Sequence[Candidate]) -> list[str]:
    return sorted({each.precision for each in candidates if each.precision in DTYPES})


def _row(
    candidate: Candidate,
    stages: Stages,
    network: Timing,
    whole: Timing | None,
    peaks: Mapping[str, float],
    memory: dict[str, float],
) -> InferenceRow:
    predictor = candidate.predictor
    work = gflop(predictor) if predictor is not None else None
    rate = work / network.best if work is not None else None
    peak = peaks.get(candidate.precision)
    return InferenceRow(
        weights=candidate.weights,
        backend=candidate.backend,
        precision=candidate.precision,
        img_size=candidate.img_size,
        batch_size=candidate.batch_size,
        workload=candidate.workload,
        slots=predictor.backend.slots if predictor is not None else 1,
        gflop=work,
        stages={name: Timing(tuple(seconds)).to_json() for name, seconds in stages.seconds.items()},
        network_ms=1e3 * network.median,
        network_fps=1 / network.median,
        best_network_fps=1 / network.best,
        end_to_end_fps=1 / whole.median if whole else None,
        best_end_to_end_fps=1 / whole.best if whole else None,
        share_of_network=network.median / whole.median if whole else None,
        gflop_per_second=rate,
        share_of_peak=rate / peak if rate is not None and peak is not None else None,
        peak_memory=memory,
        proposals=candidate.proposals() if isinstance(candidate, OurCandidate) else None,
    )
