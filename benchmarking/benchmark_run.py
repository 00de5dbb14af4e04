"""Runs ``benchmark.py``: measures, prints and writes the results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarking.accuracy import measure_ap, plot_ap
from benchmarking.candidates import Candidate, OurCandidate
from benchmarking.first_frame import measure_first_frames
from benchmarking.hot_path import HotPathRow, measure_hot_path
from benchmarking.inference import InferenceRow, InferenceRun, measure_inference
from benchmarking.machine import describe_machine, describe_versions
from benchmarking.opencv_baseline import opencv_baselines
from benchmarking.opening import combinations, open_candidates
from benchmarking.programs import measure_programs
from benchmarking.start import measure_start, start_candidates
from benchmarking.tables import markdown
from benchmarking.throughput import measure_throughput
from benchmarking.training_speed import TrainingRow, measure_training
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.given import GIVEN_KEYS, given_data
from yolofpn.data.layouts import open_data
from yolofpn.devices import choose_device
from yolofpn.errors import UserError
from yolofpn.evaluation.output_files import write_json
from yolofpn.extras import is_installed
from yolofpn.inference.predictor_options import Workload
from yolofpn.shipped import default_sources
from yolofpn.sinks.image_files import encode_image
from yolofpn.sources.resolve import Source, resolve_sources
from yolofpn.training.distributed import Ranks
from yolofpn.training.run_plan import TrainOptions, make_plan
from yolofpn.training.setup import set_up

FORMAT_VERSION = 1
YAML_SUFFIXES = (".yaml", ".yml")
# Every batch has the size that is asked for, and images are combined however long it takes.
TRAINING_OVERRIDES = ("train.multi_scale=null", "train.epochs=1000000", "augment.close_epochs=0")


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of ``benchmark.py``, see its --help; empty lists: the values stored in the weights."""

    weights: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    empty: bool = False
    data: str | None = None
    backend: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    img_size: tuple[tuple[int, int], ...] = ()
    batch_size: tuple[int, ...] = ()
    workload: tuple[Workload, ...] = ()
    compile: bool = False
    device: str = "auto"
    workers: int | None = None
    train: bool = False
    hot_path: bool = False
    start: bool = False
    throughput: bool = False
    programs: bool = False
    darknet: Path | None = None
    against: Path | None = None
    baselines: bool = True
    rounds: int = 5
    frames: int = 120
    json: Path | None = None
    plot: Path | None = None
    overrides: tuple[str, ...] = ()


def benchmark(options: BenchmarkOptions) -> int:
    """Measure, print and write; return exit code 0, or 1 if something was skipped or a loss was not finite.

    Raises:
        UserError: if nothing can be measured as asked.
    """
    if options.empty and options.source:
        raise UserError("--empty and --source cannot be combined: --empty measures on gray images")
    if options.plot is not None and (options.data is None or options.train):
        raise UserError("--plot shows AP against time: give it a data set with --data, and no --train")
    if options.plot is not None and not is_installed("matplotlib"):
        raise UserError("--plot needs matplotlib: pip install matplotlib")
    if options.against is not None and not (options.start or options.throughput):
        raise UserError("--against applies to --start and --throughput only")
    if options.darknet is not None and not options.programs:
        raise UserError("--darknet applies to --programs only")
    report: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    code = 0
    if options.start:
        candidates = start_candidates(options.weights, options.against)
        report["start"] = measure_start(candidates, options.rounds)
        report["first_frame"] = measure_first_frames(candidates, options.rounds)
    elif options.programs:
        report["programs"] = _measure_programs(options)
    elif options.throughput:
        sources = options.source or default_sources()
        report["throughput"] = measure_throughput(options.weights, sources, options.against, options.rounds)
    else:
        code = _measure_training(options, report) if options.train else _measure_inference(options, report)
    print("\n" + markdown(report))
    if options.json is not None:
        write_json(options.json, report)
    if options.plot is not None:
        plot_ap(options.plot, report["inference"])
    return code


def _measure_programs(options: BenchmarkOptions) -> list[dict[str, Any]]:
    if options.data is None or len(options.weights) != 1 or len(options.source) != 1:
        raise UserError("--programs needs one Darknet file as --weights, a video as --source, and a data set as --data")
    dataset = _open_dataset(options.data, options.overrides)
    (weights,), (video,) = options.weights, options.source
    return measure_programs(weights, dataset, Path(video), options.frames, options.darknet, options.rounds)


def print_tables(path: Path) -> int:
    """The tables of a report that an earlier run wrote; the exit code.

    Raises:
        UserError: if the file cannot be read, or is no such report.
    """
    try:
        print(markdown(json.loads(path.read_text())))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give a file that --json wrote") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is not a report of benchmark.py --json") from None
    return 0


def _measure_training(options: BenchmarkOptions, report: dict[str, Any]) -> int:
    rows = []
    for row in training_rows(options):
        rows.append(row)
        print(row, flush=True)
    report["training"] = [row.to_json() for row in rows]
    return 0 if all(row.losses_finite for row in rows) else 1


def _measure_inference(options: BenchmarkOptions, report: dict[str, Any]) -> int:
    left_out: list[str] = []

    def leave_out(line: str) -> None:
        left_out.append(line)
        print(line, file=sys.stderr)

    wanted = combinations(
        options.weights,
        options.backend,
        options.precision,
        options.img_size,
        options.batch_size,
        options.workload,
        compile=options.compile,
    )
    dataset = None if options.data is None else _open_dataset(options.data, options.overrides)
    with TemporaryDirectory() as name:
        folder = Path(name)
        ours = open_candidates(wanted, options.device, folder, leave_out, own_images=bool(options.source))
        empty = [str(empty_image(folder))] * options.frames if options.empty else []
        given = empty or options.source or default_sources()
        sources = list(resolve_sources(given, depth=ours[0].own_predictor.depth))
        for each in ours:
            print(f"{each.weights}: {each.own_predictor.backend_note}", flush=True)
        if options.hot_path:
            report["hot_path"] = [row.to_json() for row in hot_path_rows(ours, sources, options.rounds)]
            return 1 if left_out else 0
        run = InferenceRun(sources, folder, options.rounds, options.frames, choose_device(options.device))
        baselines = opencv_baselines(ours, folder, leave_out) if options.baselines else []
        candidates: list[Candidate] = [*ours, *baselines]
        print(f"candidates: {len(candidates)}, measured in turns; rounds: {options.rounds}", flush=True)
        rows = measure_inference(candidates, run)
        if dataset is not None:
            rows = [_with_ap(row, each, dataset, leave_out) for row, each in zip(rows, candidates, strict=True)]
    report["inference"] = [row.to_json() for row in rows]
    return 1 if left_out else 0


def empty_image(folder: Path) -> Path:
    """An image of one gray, in which a detector has nothing to see but everything to do."""
    path = folder / "gray.png"
    path.write_bytes(encode_image(np.full((480, 640, 3), 128, np.uint8), path.suffix)[0])
    return path


def _open_dataset(data: str, overrides: Sequence[str]) -> DetectionDataset:
    """Open the ``val`` split, before anything is measured, so that errors show first.

    Raises:
        UserError: if it cannot be read.
    """
    values = dict(word.removeprefix("data.").split("=", 1) for word in overrides if word.startswith(GIVEN_KEYS))
    given = given_data(data, values)
    return open_data(given.source, given.root, given.voc_corners).load("val")


def _with_ap(
    row: InferenceRow, candidate: Candidate, dataset: DetectionDataset, leave_out: Callable[[str], None]
) -> InferenceRow:
    """Add AP to the row; baselines and random weights have none."""
    if candidate.predictor is None or candidate.is_random:
        return row
    try:
        return replace(row, ap=measure_ap(candidate.predictor, dataset, candidate.batch_size))
    except UserError as error:
        leave_out(f"{row.weights} {row.backend} {row.precision}: no AP: {error}")
        return row


def hot_path_rows(candidates: Sequence[OurCandidate], sources: Sequence[Source], rounds: int) -> Iterator[HotPathRow]:
    """Measure the hot path of each candidate on the first image of the sources.

    Raises:
        UserError: if there is none.
    """
    frame = next((frame for source in sources for frame in source.frames()), None)
    if frame is None:
        raise UserError("no source can be read")
    for each in candidates:
        yield from measure_hot_path(each.own_predictor, frame.image, Path(frame.source).name, rounds)


def training_rows(options: BenchmarkOptions) -> Iterator[TrainingRow]:
    """Measure training for each combination of cfg, precision, size and batch size.

    Raises:
        UserError: if a cfg or the data set cannot be used.
    """
    device = choose_device(options.device)
    cfgs, precisions = _yaml_files(options.weights), options.precision or (None,)
    for cfg, precision, size, batch in product(
        cfgs, precisions, options.img_size or (None,), options.batch_size or (None,)
    ):
        wanted = () if precision is None else (f"train.precision={precision}",)
        plan = make_plan(
            TrainOptions(
                cfg=cfg,
                data=options.data,
                img_size=size,
                batch_size=batch,
                workers=options.workers,
                overrides=(*TRAINING_OVERRIDES, *wanted, *options.overrides),
            )
        )
        yield measure_training(set_up(plan, device, Ranks(), print), options.rounds)


def _yaml_files(weights: tuple[str, ...]) -> list[Path]:
    paths = [Path(each) for each in weights or ("cfg/yolofpn-tiny.yaml",)]
    for path in paths:
        if path.suffix not in YAML_SUFFIXES:
            raise UserError(f"{path}: --train needs a model's YAML, such as --cfg cfg/yolofpn-tiny.yaml")
    return paths
