"""The Python interface: ``load_detector("yolov3.weights")("dog.jpg")``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Unpack, overload

import numpy as np

from yolofpn.config import Depth, Metadata, ResizeMode
from yolofpn.detector import Detector, size_fits
from yolofpn.errors import InputError, UserError
from yolofpn.inference.image_inputs import ImageInput, as_bgr, group_by_size, image_again, to_batch
from yolofpn.inference.image_pyramid import merge_detections
from yolofpn.inference.live_results import open_results
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor_options import PredictorOptions, PredictorSettings
from yolofpn.inference.running_network import open_graph
from yolofpn.inference.selection import choose_limits
from yolofpn.models.postprocess import divides_inputs, nms_exponent, postprocess_placed
from yolofpn.ops.resize import NetworkImage, Placement, resize_for_detection, resize_image
from yolofpn.reading import MAX_INPUT_SIDE
from yolofpn.results import Failure
from yolofpn.runtimes.backend import Backend, Wait
from yolofpn.runtimes.exported import ExportedDetector
from yolofpn.runtimes.network_errors import network_errors
from yolofpn.runtimes.takeover import Takeover
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Detections, Frame, Image, Limits


class Predictor:
    """A detector with everything around the network: reading, resizing, thresholds, boxes in image pixels.

    Args:
        detector: the network, which stays as it is: a copy around its parameters runs.
        metadata: of its weights; the defaults of all that is not given.
        options: how it is run.
        **settings: fields of ``PredictorOptions``, in place of those of ``options``.

    Attributes:
        limits: which predictions become detections unless a call says otherwise.
        backend: what runs the network.
        backend_note: a line that says which one and why.
        postprocessor: turns the backend's maps into detections: the detector, or of one with two stages a faster copy.
        sizes: the (height, width) of each size that the detector looks at.
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
        self.depth: Depth = options.depth or metadata.input.depth
        self.pad_batches = options.pad_batches
        for size in self.sizes:
            _check_size(detector, size, self.resize)
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

            varies = self.resize == "shortest-edge"
            network = open_network(detector, metadata, self.sizes, options, sizes_vary=varies)
        self.detector, self.device = network.detector, network.device
        self.backend: Backend = network.choice.backend
        self.backend_note = network.choice.note
        self.postprocessor = network.postprocessor
        self.around_postprocess = network.around_postprocess
        self._starting = Lock()  # backends start one batch at a time, and ``stream`` does so in another thread

    def close(self) -> None:
        """End what still runs in the background: a graph in the making. The predictor stays usable."""
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
            image: a path, a NumPy image ([H, W, 3], [H, W, 4] or [H, W] uint8), a Pillow image, or a list of
                these.
            rgb: NumPy images are RGB, not BGR as OpenCV reads them.
            batch_size: how many images of a list go through the network together.

        Raises:
            InputError: a file is no image or is damaged.
            UserError: the network's output is not a number, or out of memory.
            ValueError: something in it is no image, or ``batch_size`` is below 1.
        """
        _check_batch_size(batch_size)
        if not isinstance(image, list | tuple):
            return self._detect_all([image], rgb=rgb)[0]
        batches = (image[start : start + batch_size] for start in range(0, len(image), batch_size))
        return [found for batch in batches for found in self._detect_all(batch, rgb=rgb)]

    def stream(self, *sources: str, batch_size: int = 1, vid_stride: int = 1) -> Iterator[tuple[Frame, Detections]]:
        """Yield every image and frame of ``sources`` (all sources of ``detect.py``) with its detections.

        Reading works ahead in a thread of its own, and the network in another one. Of live sources, which do not mix
        with files, the newest frame of each is taken.

        Raises:
            UserError: no source is given, or none of that name is there.
            InputError: a source cannot be read, or not to its end; the frames before have been given.
            ValueError: ``batch_size`` is below 1.
        """
        _check_batch_size(batch_size)
        with closing(open_results(resolve_sources(sources, vid_stride=vid_stride), self, batch_size)) as results:
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

    def start(self, images: Sequence[Image], limits: Limits | None = None) -> InFlight:
        """Start ``predict`` asynchronously: resize and submit to the network; ``result()`` waits for it.

        Up to ``slots`` calls in flight make it faster. Any thread may call this, and ask for the result, once.

        Args:
            images: BGR.
            limits: which predictions become detections; by default the predictor's own.

        Raises:
            UserError: out of memory.
        """
        passes = [each for size in self.sizes for each in self._start_at(size, images)]
        return InFlight(self, images, passes, limits or self.limits)

    def _start_at(self, size: tuple[int, int], images: Sequence[Image]) -> Iterator[Pass]:
        resize = resize_for_detection if self.resize == "shortest-edge" else resize_image
        resized = [resize(image, size, self.resize) for image in images]
        inputs = [image for image, _ in resized]
        if self.resize == "shortest-edge":
            inputs = self._padded(inputs)
        for indices in group_by_size(inputs):
            batch = to_batch([inputs[index] for index in indices])
            what = f"{len(batch)} x {batch.shape[2]}x{batch.shape[3]} pixels"
            with network_errors(self.device, self.backend.precision, what), self._starting:
                wait = self.backend.start(batch)
            yield Pass(indices, [resized[index][1] for index in indices], wait, what)

    def _detect_all(self, inputs: Sequence[ImageInput], *, rgb: bool) -> list[Detections]:
        images = [as_bgr(each, rgb=rgb, depth=self.depth) for each in inputs]
        return [
            replace(found, load_image=image_again(each, image, self.depth))
            for each, image, found in zip(inputs, images, self.predict(images), strict=True)
        ]

    def _padded(self, images: Sequence[NetworkImage]) -> list[NetworkImage]:
        """Fill up to multiples of the network's stride, or all to the largest."""
        divisor = self.detector.size_divisor
        sizes = [tuple(side + -side % divisor for side in image.shape[:2]) for image in images]
        if self.pad_batches:
            sizes = [tuple(map(max, zip(*sizes, strict=True)))] * len(sizes)
        return [self._pad(image, *size) for image, size in zip(images, sizes, strict=True)]

    def _pad(self, image: NetworkImage, height: int, width: int) -> NetworkImage:
        """Fill up with the mean."""
        if image.shape[:2] == (height, width):
            return image
        fill = np.array([255 * value for value in reversed(self.metadata.input.mean)])
        padded = np.empty((height, width, 3), image.dtype)
        padded[:] = fill if image.dtype == np.float32 else fill.round()
        padded[: image.shape[0], : image.shape[1]] = image
        return padded


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
    """Images on their way through the network, at each size of the predictor.

    Attributes:
        predictor: whose network it is.
        images: that were given.
        passes: through the network.
        limits: which predictions become detections.
    """

    predictor: Predictor
    images: Sequence[Image]
    passes: Sequence[Pass]
    limits: Limits

    def result(self) -> list[Detections]:
        """Wait for the detections of each image, in image pixels.

        Raises:
            UserError: the network's output is not a number, or out of memory.
        """
        predictor, found = self.predictor, [list[Detections]() for _ in self.images]
        metadata, precision = predictor.metadata, predictor.backend.precision
        for each in self.passes:
            with network_errors(predictor.device, precision, each.what), predictor.around_postprocess(precision):
                in_network = postprocess_placed(predictor.postprocessor, each.wait(), each.placements, self.limits)
            for index, own, place in zip(each.indices, in_network, each.placements, strict=True):
                boxes = place.to_image(own.boxes)
                found[index].append(Detections(boxes, own.scores, own.labels, metadata.names, metadata.category_ids))
        if len(predictor.sizes) == 1:
            return [parts[0] for parts in found]
        exponent = nms_exponent(predictor.detector)
        pairs = zip(found, self.images, strict=True)
        return [merge_detections(parts, self.limits, exponent, image.shape[:2]) for parts, image in pairs]


def load_detector(
    weights: str | Path = "auto",
    *,
    darknet_cfg: str | Path | None = None,
    names: str | Path | None = None,
    **settings: Unpack[PredictorSettings],
) -> Predictor:
    """A detector ready for use.

    Args:
        weights: a safetensors or Darknet ``.weights`` file, a folder that training wrote, or a name such as 'yolov3'.
        darknet_cfg: the cfg of Darknet weights, if it is not found beside them.
        names: a file of class names, if none is found beside them.
        **settings: fields of ``PredictorOptions``, such as img_size=(608, 608), score_thresh=0.1, device='cuda:0'.

    Raises:
        UserError: the weights are missing, damaged, or do not fit the cfg; or a setting does not fit them.
    """
    options = PredictorOptions(**settings)
    loaded = load_for_inference(weights, darknet_cfg=darknet_cfg, names=names, options=options)
    return Predictor(loaded.detector, loaded.metadata, options)


def _check_size(detector: Detector, size: tuple[int, int], resize: ResizeMode) -> None:
    divisor = detector.size_divisor
    if max(size) > MAX_INPUT_SIDE:
        raise UserError(f"image size {size[0]}x{size[1]} is too large: a side has at most {MAX_INPUT_SIDE} pixels")
    if resize == "shortest-edge":
        if isinstance(detector, ExportedDetector):
            raise UserError("a graph takes images of one size, shortest-edge makes many: --resize letterbox or stretch")
        if not divides_inputs(detector):
            raise UserError("this network's maps do not divide its input: --resize letterbox or stretch")
    elif not size_fits(detector, size):
        height, width = (max(divisor, round(side / divisor) * divisor) for side in size)
        raise UserError(
            f"image size {size[0]}x{size[1]} is not a multiple of {divisor}, the network's stride: try {height}x{width}"
        )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
