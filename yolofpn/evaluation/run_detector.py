"""Runs a detector on all images of a data set, at one size or at each size of an image pyramid."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from tqdm import tqdm

from yolofpn.concurrency import Background
from yolofpn.data.class_names import ClassMatch
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.loader import Loader, Padding
from yolofpn.data.sampler import EvalBatchSampler
from yolofpn.data.samples import EvaluationSamples
from yolofpn.devices import default_workers
from yolofpn.errors import InputError, UserError
from yolofpn.evaluation.evaluator import collect, relabelled
from yolofpn.evaluation.metrics import DetectionMetrics
from yolofpn.evaluation.proposal_recall import ProposalCollector
from yolofpn.inference.predictor import Predictor
from yolofpn.models.two_stage.proposals import PROPOSAL_LIMITS
from yolofpn.runtimes.network_errors import network_errors
from yolofpn.structures import Detections, Image, Limits
from yolofpn.text import bar_stream
from yolofpn.views.image_pyramid import merge_detections

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal that a bar could be drawn on


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        batch_size: images per batch.
        workers: data loading processes; None: chosen for the machine.
        score_thresh: score threshold.
        with_proposals: whether proposals are collected too.
    """

    batch_size: int
    workers: int | None
    score_thresh: float
    with_proposals: bool = False


@dataclass(frozen=True)
class Found:
    """The detections of a data set.

    Attributes:
        metrics: detections and ground truth of every image.
        proposals: proposals and ground truth of every image, if requested.
        failures: why images could not be read, by their number in the data set.
    """

    metrics: DetectionMetrics
    proposals: DetectionMetrics | None
    failures: dict[int, str]

    def detections(self, dataset: DetectionDataset) -> dict[int, Detections]:
        """Return the detections by image id, with the data set's class names."""
        return {image_id: replace(detections, names=dataset.names) for image_id, detections, _ in self.metrics.images()}


def run_detector(predictor: Predictor, dataset: DetectionDataset, match: ClassMatch, settings: RunSettings) -> Found:
    """Detect on every image at each of the predictor's sizes.

    Raises:
        UserError: if out of memory, the network's output is NaN, or it makes no proposals.
    """
    if predictor.tile is not None:
        return _run_in_tiles(predictor, dataset, match, settings)
    reports = [print_failure, *[_say_nothing] * (len(predictor.sizes) - 1)]
    found = [
        _run_at(size, predictor, dataset, match, settings, report=report)
        for size, report in zip(predictor.sizes, reports, strict=True)
    ]
    limits = split_limits(predictor, match, settings.score_thresh)
    proposals = [each.proposals for each in found if each.proposals is not None]
    return Found(
        _merged([each.metrics for each in found], limits),
        _merged(proposals, PROPOSAL_LIMITS) if proposals else None,
        found[0].failures,
    )


def _run_at(
    size: tuple[int, int],
    predictor: Predictor,
    dataset: DetectionDataset,
    match: ClassMatch,
    settings: RunSettings,
    *,
    report: Callable[[str], None],
) -> Found:
    # Images of different sizes would be padded to the largest of their batch, which changes the detections.
    varying = predictor.resize == "shortest-edge"
    alone = varying and not predictor.pad_batches
    batch_size = 1 if alone else settings.batch_size
    device = torch.device(str(predictor.device))
    loader = Loader(
        EvaluationSamples(dataset, predictor.resize),
        EvalBatchSampler(len(dataset), batch_size, size),
        workers=default_workers(device) if settings.workers is None else settings.workers,
        pin_memory=predictor.device.type == "cuda",
        # The other ways of resizing make images of a size that the network takes.
        padding=Padding.for_network(predictor.metadata.input.mean, predictor.detector.size_divisor if varying else 1),
        report=report,
    )
    collector = ProposalCollector(predictor.detector) if settings.with_proposals else None
    metrics = DetectionMetrics(dataset.names)
    what = f"batches of {batch_size} x {size[0]}x{size[1]} pixels"
    with network_errors(predictor.device, predictor.backend.precision, what):
        collect(
            predictor.postprocessor,
            with_progress(loader, len(dataset), len),
            metrics,
            device=device,
            run=lambda images: predictor.backend.start(images)(),
            limits=split_limits(predictor, match, settings.score_thresh),
            relabel=match.mapping,
            on_dense=collector.add if collector else None,
        )
    return Found(metrics, collector.metrics if collector else None, loader.failures)


def _run_in_tiles(predictor: Predictor, dataset: DetectionDataset, match: ClassMatch, settings: RunSettings) -> Found:
    """As detection does it: images are read in another thread, and their tiles share batches."""
    if settings.with_proposals or predictor.detector.needs_proposals:
        raise UserError("--tile: proposals are made for whole images: evaluate this detector without tiles")
    metrics, failures = DetectionMetrics(dataset.names), {}
    limits = split_limits(predictor, match, settings.score_thresh)
    images = Background(read_images(dataset), ahead=2)
    with closing(images):
        for index, image in with_progress(images, len(dataset)):
            if isinstance(image, str):
                failures[index] = image
                print_failure(image)
                metrics.add(Detections.empty(), dataset.target(index))
                continue
            found = relabelled(predictor.predict([image], limits)[0], match.mapping)
            target = dataset.target(index, (image.shape[0], image.shape[1]))
            metrics.add(found, replace(target, proposals=None))
    return Found(metrics, None, failures)


def read_images(dataset: DetectionDataset) -> Iterator[tuple[int, Image | str]]:
    """Each image, or why it cannot be read."""
    for index in range(len(dataset)):
        try:
            yield index, dataset.image(index)
        except InputError as error:
            yield index, str(error)


def _merged(at_each_size: Sequence[DetectionMetrics], limits: Limits) -> DetectionMetrics:
    """Merge the detections of all sizes for each image."""
    if len(at_each_size) == 1:
        return at_each_size[0]
    merged = DetectionMetrics(at_each_size[0].names)
    for images in zip(*(metrics.images() for metrics in at_each_size), strict=True):
        merged.add(merge_detections([detections for _, detections, _ in images], limits), images[0][2])
    return merged


def split_limits(predictor: Predictor, match: ClassMatch, score_thresh: float) -> Limits:
    """Classes that the data set lacks are omitted before the best detections of an image are counted."""
    if None not in match.mapping:
        return replace(predictor.limits, score_thresh=score_thresh)
    thresholds = tuple(1.0 if label is None else score_thresh for label in match.mapping)
    return replace(predictor.limits, score_thresh=thresholds)


def with_progress(items: Iterable[T], total: int, count: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """Yield the items, with a progress bar on a terminal, else with a line from time to time.

    Args:
        items: batches or images.
        total: images in all.
        count: images of an item.
    """
    stream = bar_stream(sys.stderr)
    with tqdm(total=total, unit="image", disable=not stream.isatty(), leave=False, file=stream) as bar:
        done, last_line = 0, time.perf_counter()
        for item in items:
            yield item
            done += count(item)
            bar.update(count(item))
            if bar.disable and time.perf_counter() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.perf_counter()
                print(f"{done} of {total} images done", flush=True)


def print_failure(line: str) -> None:
    """Print to stderr that an image failed, above a progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"failed: {line}", file=sys.stderr, flush=True)


def _say_nothing(_line: str) -> None:
    """Report nothing: the same images are unreadable at every size."""
