"""One run of ``evaluate.py``: a data set and weights -> numbers, printed and in files."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from yolofpn.config import ResizeMode
from yolofpn.data.dataset import DetectionDataset, ProblemKind
from yolofpn.data.layouts import open_data
from yolofpn.data.loader import Batch, Loader
from yolofpn.data.names import ClassMatch, match_classes
from yolofpn.data.sampler import EvalBatchSampler
from yolofpn.data.samples import EvaluationSamples
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluate import collect
from yolofpn.evaluation.files import (
    prepare_output,
    write_detections,
    write_json,
    write_plots,
    write_worst_images,
)
from yolofpn.evaluation.metrics import PROPOSAL_LIMITS, DetectionMetrics, Metrics
from yolofpn.evaluation.report import format_metrics
from yolofpn.evaluation.thresholds import SUFFIX, save_thresholds
from yolofpn.hardware import default_workers
from yolofpn.inference.predictor import Predictor
from yolofpn.structures import Detections, Limits
from yolofpn.weights import load_weights

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal that a bar could be drawn on


@dataclass(frozen=True)
class EvaluateOptions:
    """What ``evaluate.py --help`` explains; None and 'auto' leave it to the weights."""

    data: str
    root: Path | None = None
    split: str = "val"
    weights: str = "auto"
    darknet_cfg: Path | None = None
    names: Path | None = None
    img_size: tuple[int, int] | None = None
    resize: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    workers: int | None = None
    score_thresh: float = 0.001
    nms_thresh: float = 0.6
    max_det: int = 300
    report_thresh: float = 0.25
    output: Path | None = None
    json: Path | None = None
    save_thresholds: Path | None = None


@dataclass(frozen=True)
class Found:
    """What a detector found in a data set.

    Attributes:
        metrics: detections and ground truth of every picture.
        detections: by image id, with the data set's labels, names and category ids.
        failures: why pictures could not be read, by their number in the data set.
    """

    metrics: DetectionMetrics
    detections: dict[int, Detections]
    failures: dict[int, str]


def evaluate(options: EvaluateOptions) -> int:
    """Measure, print, write; the exit code: 0 done, 1 some pictures are missing or could not be read.

    Raises:
        UserError: nothing can be measured: bad weights, data or options, no class in common, no place to write to.
    """
    if options.save_thresholds is not None and options.save_thresholds.suffix != SUFFIX:
        raise UserError(f"{options.save_thresholds}: name the file {SUFFIX}: only such a file can hold thresholds")
    predictor = open_predictor(options)
    dataset, match = open_split(options, predictor)
    output = prepare_output(options.output, options.data)
    start = time.perf_counter()
    found = run_detector(predictor, dataset, match, options)
    if len(found.failures) == len(dataset):
        raise UserError(f"{options.data}: none of the {len(dataset)} pictures of {options.split!r} can be read")
    metrics = found.metrics.compute(options.report_thresh, voc=True, proposals=options.max_det >= max(PROPOSAL_LIMITS))
    seconds = time.perf_counter() - start
    print(format_metrics(metrics))
    print(f"pictures: {len(dataset)} in {seconds:.1f} s, of which {metrics.seconds:.1f} s for the metrics")
    write_files(output, options, dataset, found, metrics, seconds)
    if options.save_thresholds is not None:
        print(save_thresholds(options.save_thresholds, predictor, match, found.metrics.table(), options.report_thresh))
    print(f"results: {output}")
    return _exit_code(dataset, found)


def open_predictor(options: EvaluateOptions) -> Predictor:
    """The detector that the options name, set up as for detection; the choices made are printed."""
    loaded = load_weights(options.weights, darknet_cfg=options.darknet_cfg, names=options.names)
    for note in loaded.notes:
        print(note)
    resize: ResizeMode | None = None if options.resize == "auto" else options.resize  # type: ignore[assignment]
    predictor = Predictor(
        loaded.detector,
        loaded.metadata,
        img_size=options.img_size,
        resize=resize,
        nms_thresh=options.nms_thresh,
        detections_per_img=options.max_det,
        device=options.device,
        precision=options.precision,
    )
    print(f"input: {predictor.img_size[0]}x{predictor.img_size[1]}, {predictor.resize}; {predictor.device}")
    return predictor


def open_split(options: EvaluateOptions, predictor: Predictor) -> tuple[DetectionDataset, ClassMatch]:
    """The pictures to evaluate on, and which of its classes the detector's are; both are printed.

    Raises:
        UserError: the data set cannot be read, or has no class of the detector's.
    """
    source = open_data(options.data, options.root)
    dataset = source.load(options.split)
    print("\n".join(source.notes))
    match = match_classes(predictor.names, predictor.metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError(
            f"the weights and {options.data} have no class in common: the weights' are {_listed(predictor.names)}\n"
            f"those of the data set are {_listed(dataset.names)}; --names gives the weights others"
        )
    print(match)
    return dataset, match


def run_detector(predictor: Predictor, dataset: DetectionDataset, match: ClassMatch, options: EvaluateOptions) -> Found:
    """Detect on every picture."""
    # Pictures of different sizes would be padded to the largest of their batch, which changes what is found.
    batch_size = 1 if predictor.resize == "shortest-edge" else options.batch_size
    loader = Loader(
        EvaluationSamples(dataset, predictor.resize),
        EvalBatchSampler(len(dataset), batch_size, predictor.img_size),
        workers=default_workers(predictor.device) if options.workers is None else options.workers,
        pin_memory=predictor.device.type == "cuda",
        report=_report_failure,
    )
    found = Found(DetectionMetrics(dataset.names), {}, loader.failures)

    def keep(image_id: int, detections: Detections) -> None:
        found.detections[image_id] = replace(detections, names=dataset.names, category_ids=dataset.category_ids)

    with _network_errors(predictor):
        collect(
            predictor.detector,
            _padded(_with_progress(loader, len(dataset)), predictor),
            found.metrics,
            device=predictor.device,
            dtype=predictor.dtype,
            limits=_limits(predictor, match, options.score_thresh),
            relabel=match.mapping,
            on_image=keep,
        )
    return found


def write_files(
    output: Path, options: EvaluateOptions, dataset: DetectionDataset, found: Found, metrics: Metrics, seconds: float
) -> None:
    """Write everything into ``output``, and the numbers where ``--json`` says.

    Raises:
        UserError: a file cannot be written.
    """
    numbers = {**metrics.to_json(), "seconds": seconds}
    write_json(output / "results.json", {**numbers, "settings": asdict(options)})
    if options.json is not None:
        write_json(options.json, numbers)
    table = found.metrics.table()
    write_detections(output / "detections.coco.json", found.detections)
    write_plots(output, metrics, table)
    write_worst_images(output / "worst", dataset, found.detections, table, options.report_thresh, found.failures.keys())


def _limits(predictor: Predictor, match: ClassMatch, score_thresh: float) -> Limits:
    """Classes that the data set lacks are left out before the best detections of a picture are counted."""
    if None not in match.mapping:
        return replace(predictor.limits, score_thresh=score_thresh)
    thresholds = tuple(1.0 if label is None else score_thresh for label in match.mapping)
    return replace(predictor.limits, score_thresh=thresholds)


@contextlib.contextmanager
def _network_errors(predictor: Predictor) -> Iterator[None]:
    """What no user should read as a traceback: memory that does not suffice, and numbers that are none."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise UserError(f"the memory of {predictor.device} does not suffice: lower --batch-size") from None
        raise
    except ValueError as error:
        if "NaN" not in str(error):
            raise
        remedy = "fetch or train them again" if predictor.dtype == torch.float32 else "try --precision fp32"
        raise UserError(f"the network's output is not a number (NaN): the weights are damaged: {remedy}") from None


def _padded(batches: Iterator[Batch], predictor: Predictor) -> Iterator[Batch]:
    """Batches filled up to the network's stride with its mean, as in detection (only ``shortest-edge`` needs it)."""
    divisor, mean = predictor.detector.size_divisor, predictor.metadata.input.mean
    for batch in batches:
        height, width = batch.images.shape[2:]
        if height % divisor == 0 and width % divisor == 0:
            yield batch
            continue
        fill = torch.tensor([round(value * 255) for value in mean], dtype=torch.uint8)
        size = (len(batch), 3, height + -height % divisor, width + -width % divisor)
        images: Tensor = fill[None, :, None, None].expand(size).clone()
        images[:, :, :height, :width] = batch.images
        yield replace(batch, images=images)


def _with_progress(loader: Loader, total: int) -> Iterator[Batch]:
    """The loader's batches, with a bar on a terminal, else with a line from time to time."""
    with tqdm(total=total, unit="picture", disable=not sys.stderr.isatty(), leave=False) as bar:
        done, last_line = 0, time.perf_counter()
        for batch in loader:
            yield batch
            done += len(batch)
            bar.update(len(batch))
            if bar.disable and time.perf_counter() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.perf_counter()
                print(f"{done} of {total} pictures done", flush=True)


def _report_failure(line: str) -> None:
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"failed: {line}", file=sys.stderr, flush=True)


def _exit_code(dataset: DetectionDataset, found: Found) -> int:
    missing = [problem for problem in dataset.problems if problem.kind is ProblemKind.MISSING_PICTURE]
    if missing:
        count = f"{len(missing)} pictures are" if len(missing) > 1 else "1 picture is"
        print(f"failed: {count} missing and not evaluated, such as {missing[0].file}", file=sys.stderr)
    if found.failures:
        count = f"{len(found.failures)} pictures" if len(found.failures) > 1 else "1 picture"
        print(f"failed: {count} could not be read: what they show counts as not found", file=sys.stderr)
    return 1 if missing or found.failures else 0


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
