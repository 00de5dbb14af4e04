"""A detector with everything around its network: images in, detections out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from threading import Lock
from typing import Any, Unpack, overload

from yolofpn.config import Metadata, ResizeMode
from yolofpn.data.image_inputs import ImageInput, as_bgr, group_by_size, image_again, to_batch
from yolofpn.detector import Detector
from yolofpn.errors import InputError
from yolofpn.inference.live_results import open_results
from yolofpn.inference.predictor_options import PredictorOptions, PredictorSettings
from yolofpn.inference.running_network import open_graph
from yolofpn.inference.selection import choose_limits
from yolofpn.inference.tracked_results import TrackedResults
from yolofpn.models.postprocess import nms_exponent, postprocess_placed
from yolofpn.ops.resize import Placement, fill_up, resize_for_detection, resize_image, resized_size
from yolofpn.results import Failure
from yolofpn.runtimes.backend import Backend, Wait
from yolofpn.runtimes.exported import ExportedDetector
from yolofpn.runtimes.input_checks import check_batch_size, check_size
from yolofpn.runtimes.network_errors import network_errors
from yolofpn.runtimes.takeover import Takeover
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Detections, Frame, Image, Limits, WholeImage
from yolofpn.tracking.source_tracks import TrackOptions, followed
from yolofpn.views.image_pyramid import merge_detections
from yolofpn.views.tiles import View, make_views, merge_views

TILES_AT_ONCE = 8  # tiles of a batch; more are no faster, and take memory
PASSES_AT_ONCE = 4  # batches of one call in the network, or twice as many as its slots; the others are not yet resized
NEEDED = 2.0  # pixels of a reduced image to one of the network's input: see docs/benchmarks.md


class Predictor:
    """Runs a detector on images: reading, resizing, network, thresholds, and boxes in image pixels.

    Args:
        detector: the network; it is not modified, because a copy around its parameters runs.
        metadata: of its weights; the defaults of options that are not given.
        options: how it is run.
        **settings: fields of ``PredictorOptions`` that override those of ``options``.

    Attributes:
        limits: thresholds and maximum number of detections, unless a call gives others.
        backend: what runs the network.
        backend_note: one line: which backend, and why.
        postprocessor: turns raw outputs into detections: the detector, or a faster copy of a two-stage one.
        sizes: the network input sizes, (height, width), at which each image is processed.
        tile: (height, width) of tiles in image pixels; None: only whole images.
        overlap: fraction of a tile that it shares with the next one.
        device: where the network runs.
        around_postprocess: the context of ``postprocessor`` in a precision.

    Raises:
        UserError: ``img_size``, ``resize`` or ``pyramid`` does not fit the network, a class or the device is unknown.
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        detector: Detector,
        metadata: Metadata,
        options: PredictorOptions | None = None,
        **settings: Unpack[PredictorSettings],
    ) -> None:
        options = replace(options or PredictorOptions(), **settings)
        self.metadata = metadata
        self.sizes = options.sizes(metadata.input.size)
        self.img_size = self.sizes[0]
        given = options.resize
        self.resize: ResizeMode = metadata.input.resize if given is None or given == "auto" else given
        self.depth = options.reading(metadata.input)
        self.pad_batches = options.pad_batches
        self.tile = options.tile_size(self.img_size)
        self.overlap = options.overlap
        for size in self.sizes:
            check_size(detector, size, self.resize)
        self.limits = choose_limits(
            detector.limits,
            metadata.names,
            score_thresh=options.score_thresh,
            nms_thresh=options.nms_thresh,
            detections_per_img=options.detections_per_img,
            classes=options.classes,
        )
        if isinstance(detector, ExportedDetector):
            network = open_graph(detector, self.sizes, options)
        else:
            from yolofpn.inference.torch_network import open_network  # PyTorch, which graphs do without

            network = open_network(detector, metadata, self.sizes, options, sizes_vary=self.resize == "shortest-edge")
        self.detector, self.device = network.detector, network.device
        self.backend: Backend = network.choice.backend
        self.backend_note = network.choice.note
        self.postprocessor = network.postprocessor
        self.around_postprocess = network.around_postprocess
        self._starting = Lock()  # backends start one batch at a time, and ``stream`` does so in another thread

    def close(self) -> None:
        """Stop building a graph in the background. The predictor stays usable."""
        if isinstance(self.backend, Takeover):
            self.backend.close()

    def settle(self) -> None:
        """Wait until the graph is built, for measurements: the backend no longer changes afterwards."""
        if isinstance(self.backend, Takeover):
            self.backend = self.backend.settle()

    @property
    def slots(self) -> int:
        """How many calls of ``start`` in flight make it faster."""
        return self.backend.slots

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.metadata.names

    @overload
    def __call__(self, image: ImageInput, *, rgb: bool = False) -> Detections: ...

    @overload
    def __call__(
        self, image: list[Any] | tuple[Any, ...], *, rgb: bool = False, batch_size: int = 1
    ) -> list[Detections]: ...

    def __call__(
        self, image: ImageInput | list[Any] | tuple[Any, ...], *, rgb: bool = False, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Detect in one image -> Detections; in a list of images -> a list of Detections.

        Args:
            image: a path, a NumPy image ([H, W, 3], [H, W, 4] or [H, W] uint8; for weights of bands [H, W, N] of any
                numbers), a Pillow image, or a list of these.
            rgb: NumPy images are RGB, not BGR as OpenCV reads them.
            batch_size: images of a list per batch.

        Raises:
            InputError: a file is not an image or is damaged.
            UserError: the network's output is not a number, or out of memory.
            ValueError: an array or item is not an image, or ``batch_size`` is below 1.
        """
        check_batch_size(batch_size)
        if not isinstance(image, list | tuple):
            return self._detect_all([image], rgb=rgb)[0]
        batches = (image[start : start + batch_size] for start in range(0, len(image), batch_size))
        return [found for batch in batches for found in self._detect_all(batch, rgb=rgb)]

    def stream(
        self, *sources: str, batch_size: int = 1, vid_stride: int = 1, track: bool | str | TrackOptions = False
    ) -> Iterator[tuple[Frame, Detections]]:
        """Yield every image and frame of ``sources`` (all sources of ``detect.py``) with its detections.

        Reading and the network run in separate threads. Live sources, which cannot be mixed with files, give their
        newest frames.

        Args:
            *sources: see above.
            batch_size: images and frames per batch.
            vid_stride: take every N-th frame of videos and streams.
            track: follow objects from frame to frame: True, the name of a tracker, or ``TrackOptions`` with lines and
                zones. The detections then have ``track_ids`` and ``tracks``.

        Raises:
            UserError: no source is given or found, or the tracker's library is missing.
            InputError: a source cannot be read to its end; the frames before that have been yielded.
            ValueError: ``batch_size`` is below 1.
        """
        check_batch_size(batch_size)
        tracking = track if isinstance(track, TrackOptions) else None
        if track and tracking is None:
            tracking = TrackOptions(track if isinstance(track, str) else None)
        limits = None
        if tracking is not None:
            tracking.check()
            limits = followed(self.limits)
        found = open_results(resolve_sources(sources, vid_stride=vid_stride), self, batch_size, limits=limits)
        if tracking is not None:
            found = TrackedResults(found, tracking, self.limits)
        with closing(found) as results:
            for item in results:
                if isinstance(item, Failure):
                    raise InputError(item.message)
                yield item.frame, item.detections

    def predict(self, images: Sequence[Image], limits: Limits | None = None) -> list[Detections]:
        """BGR images -> their detections in image pixels; images of one network size share a batch.

        Raises:
            UserError: the network's output is not a number, or out of memory.
        """
        return self.start(images, limits).result()

    def start(
        self,
        images: Sequence[Image],
        limits: Limits | None = None,
        wholes: Sequence[WholeImage | None] | None = None,
    ) -> InFlight:
        """Start ``predict`` asynchronously: resize and submit to the network; ``result()`` waits for it.

        With many tiles, only the first batches are started; ``result()`` starts the others one by one.

        Up to ``slots`` calls in flight make it faster. Any thread may call this, and ask for the result, once.

        Args:
            images: BGR.
            limits: which predictions become detections; by default the predictor's own.
            wholes: for each image None, or the one that it was reduced from: its pixels are those of the detections.

        Raises:
            UserError: out of memory.
        """
        wholes = wholes or [None] * len(images)
        sizes = [image.shape[:2] if whole is None else whole.size for image, whole in zip(images, wholes, strict=True)]
        views = [make_views((height, width), self.tile or (height, width), self.overlap) for height, width in sizes]
        parts = [
            (image, whole) if len(own) == 1 else (image[top:bottom, left:right], None)
            for image, whole, own in zip(images, wholes, views, strict=True)
            for left, top, right, bottom in (view.window for view in own)
        ]
        most = max(len(images), TILES_AT_ONCE)
        passes = chain.from_iterable(self._start_at(size, parts, most) for size in self.sizes)
        started = deque(islice(passes, max(PASSES_AT_ONCE, 2 * self.slots)))
        return InFlight(self, views, started, passes, limits or self.limits)

    def needed_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image -> of the smallest one in its place with which detections stay nearly the same.

        That is ``NEEDED`` times the part of the network's input that the image fills, at the largest of its sizes; with
        tiles, all of it.
        """
        if self.tile is not None:
            return size
        regions = [resized_size(size, network_size, self.resize) for network_size in self.sizes]
        height, width = (math.ceil(NEEDED * max(sides)) for sides in zip(*regions, strict=True))
        return height, width

    def _start_at(
        self, size: tuple[int, int], parts: Sequence[tuple[Image, WholeImage | None]], most: int
    ) -> Iterator[Pass]:
        varies = self.resize == "shortest-edge"
        resize = resize_for_detection if varies else resize_image
        shapes = self._padded_sizes([image for image, _ in parts], size) if varies else [size] * len(parts)
        groups = group_by_size(shapes)
        for indices in (own[first : first + most] for own in groups for first in range(0, len(own), most)):
            inputs, placements = [], []
            for index in indices:
                image, whole = parts[index]
                resized, place = resize(image, size, self.resize)
                inputs.append(fill_up(resized, shapes[index], self.metadata.input.mean))
                placements.append(place if whole is None else place.for_whole(whole.size, whole.scale))
            batch = to_batch(inputs)
            what = f"{len(batch)} x {batch.shape[2]}x{batch.shape[3]} pixels"
            with network_errors(self.device, self.backend.precision, what), self._starting:
                wait = self.backend.start(batch)
            yield Pass(indices, placements, wait, what)

    def _detect_all(self, inputs: Sequence[ImageInput], *, rgb: bool) -> list[Detections]:
        images = [as_bgr(each, rgb=rgb, depth=self.depth) for each in inputs]
        return [
            replace(found, load_image=image_again(each, image, self.depth))
            for each, image, found in zip(inputs, images, self.predict(images), strict=True)
        ]

    def _padded_sizes(self, images: Sequence[Image], size: tuple[int, int]) -> list[tuple[int, int]]:
        """After resizing, filled up to multiples of the network's stride, or all to the largest."""
        divisor = self.detector.size_divisor
        resized = (resized_size((image.shape[0], image.shape[1]), size, self.resize) for image in images)
        sizes = [(height + -height % divisor, width + -width % divisor) for height, width in resized]
        if self.pad_batches and sizes:
            heights, widths = zip(*sizes, strict=True)
            sizes = [(max(heights), max(widths))] * len(sizes)
        return sizes


@dataclass(frozen=True)
class Pass:
    """Images of one network size, in the network together.

    Attributes:
        indices: which of the images that were given.
        placements: where each lies in the network's input.
        wait: gives the maps.
        what: how many and how large, for messages.
    """

    indices: Sequence[int]
    placements: Sequence[Placement]
    wait: Wait
    what: str


@dataclass(frozen=True)
class InFlight:
    """Images in the network, at each size of the predictor and in each view of them.

    Attributes:
        predictor: whose network it is.
        views: of each image: the whole, and its tiles.
        started: passes through the network.
        others: that follow, each started when it is asked for.
        limits: which predictions become detections.
    """

    predictor: Predictor
    views: Sequence[Sequence[View]]
    started: deque[Pass]
    others: Iterator[Pass]
    limits: Limits

    def result(self) -> list[Detections]:
        """Wait for the detections of each image, in image pixels.

        Raises:
            UserError: the network's output is NaN, or out of memory.
        """
        predictor, views = self.predictor, [view for own in self.views for view in own]
        found = [list[Detections]() for _ in views]
        metadata, precision = predictor.metadata, predictor.backend.precision
        for each in self._passes():
            with network_errors(predictor.device, precision, each.what), predictor.around_postprocess(precision):
                in_network = postprocess_placed(predictor.postprocessor, each.wait(), each.placements, self.limits)
            for index, own, place in zip(each.indices, in_network, each.placements, strict=True):
                boxes = place.to_image(own.boxes)
                found[index].append(Detections(boxes, own.scores, own.labels, metadata.names, metadata.category_ids))
        if len(predictor.sizes) == 1:
            whole = [parts[0] for parts in found]
        else:
            exponent, pairs = nms_exponent(predictor.detector), zip(found, views, strict=True)
            whole = [merge_detections(parts, self.limits, exponent, view.size) for parts, view in pairs]
        if predictor.tile is None:
            return whole
        left = iter(whole)
        return [merge_views([view.to_image(next(left)) for view in own], own, self.limits) for own in self.views]

    def _passes(self) -> Iterator[Pass]:
        while self.started:
            yield self.started.popleft()
            self.started.extend(islice(self.others, 1))
