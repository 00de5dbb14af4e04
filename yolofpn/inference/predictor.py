"""The Python interface: ``load_detector("yolov3.weights")("dog.jpg")``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Unpack, get_args, overload

import numpy as np
import torch
from torch import Tensor

from yolofpn.config import Depth, Metadata, ResizeMode
from yolofpn.errors import NaNOutputError, UserError
from yolofpn.hardware import choose_device
from yolofpn.inference.batches import group_by_size, in_batches, to_batch
from yolofpn.inference.choose import Workload, choose_backend
from yolofpn.inference.image_pyramid import merge_detections
from yolofpn.inference.load import PredictorSettings, load_for_inference
from yolofpn.inference.pictures import Picture, as_bgr, image_again
from yolofpn.inference.selection import choose_limits
from yolofpn.models.postprocess import divides_inputs, nms_exponent, postprocess_placed
from yolofpn.ops.resize import NetworkImage, Placement, resize_for_detection
from yolofpn.reading import MAX_INPUT_SIDE
from yolofpn.runtimes.backend import Backend
from yolofpn.runtimes.fold import for_inference
from yolofpn.runtimes.full_precision import full_precision
from yolofpn.runtimes.network_errors import network_errors
from yolofpn.runtimes.second_stage import prepare_postprocess
from yolofpn.runtimes.takeover import Takeover
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Detections, Detector, Frame, Image, Limits, size_fits


class Predictor:
    """A detector with everything around the network: reading, resizing, thresholds, boxes in picture pixels.

    Args:
        detector: the network, which stays as it is: a copy around its numbers runs.
        metadata: what its weights know of themselves; the defaults of all that is not given.
        img_size: (height, width) of the network's input, or one number for both; for ``shortest-edge`` the
            (shorter, longer) side.
        pyramid: several such sizes in place of one: the detector looks at each picture in all of them.
        resize: the way to that size.
        depth: which value is white in image files of more than 8 bits: 'auto', '12', '16' or 'minmax'.
        score_thresh: lowest score, one for all classes, in [0, 1].
        nms_thresh: IoU above which the weaker box of a class goes, in [0, 1].
        detections_per_img: most detections of one picture.
        classes: names or labels of the only classes wanted.
        device: where the network runs: 'auto', 'cpu', 'cuda:0', 'mps'.
        backend: what runs the network: 'auto', 'torch' or a runtime such as 'openvino'; see ``choose_backend``.
        precision: 'auto' (fp32, or what ``yolofpn tune`` chose), 'fp32', 'bf16' or 'fp16'; 'int8' if the weights are
            an int8 graph.
        workload: 'few', 'live' or 'many' images are coming: how a backend shares the processors among them.
        compile: let torch.compile write the kernels of the torch backend.
        pad_batches: pictures that ``shortest-edge`` brings to different sizes share a pass all the same, filled up to
            the largest of them; what is found in a picture then depends a little on the others.

    Attributes:
        limits: the thresholds in force.
        backend: what runs the network.
        backend_note: a line that says which one and why.
        postprocessor: turns the backend's maps into detections: the detector, or of one with two stages a faster copy.
        sizes: the (height, width) of each size that the detector looks at.

    Raises:
        UserError: ``img_size`` or ``pyramid`` does not fit the network, a class or the device is unknown.
        ValueError: a threshold is out of its range, there is no such ``resize`` or ``precision``, ``pyramid`` is
            empty, or it is given beside ``img_size``.
    """

    def __init__(
        self,
        detector: Detector,
        metadata: Metadata,
        *,
        img_size: int | tuple[int, int] | None = None,
        pyramid: Sequence[int | tuple[int, int]] | None = None,
        resize: ResizeMode | None = None,
        depth: Depth | None = None,
        score_thresh: float | None = None,
        nms_thresh: float | None = None,
        detections_per_img: int | None = None,
        classes: Sequence[str | int] | None = None,
        device: str = "auto",
        backend: str = "auto",
        precision: str = "auto",
        workload: Workload = "few",
        compile: bool = False,
        pad_batches: bool = False,
    ) -> None:
        self.device = choose_device(device)
        self.detector = detector = for_inference(detector, self.device)
        self.pad_batches = pad_batches
        self.metadata = metadata
        self.sizes = _choose_sizes(img_size, pyramid, metadata)
        self.img_size = self.sizes[0]
        self.resize: ResizeMode = resize or metadata.input.resize
        if self.resize not in get_args(ResizeMode):
            raise ValueError(f"resize {self.resize!r} is none of {', '.join(get_args(ResizeMode))}")
        self.depth: Depth = depth or metadata.input.depth
        for size in self.sizes:
            self._check_size(size)
        self.limits = choose_limits(
            detector.limits,
            metadata.names,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            classes=classes,
        )
        choice = choose_backend(
            detector,
            metadata,
            self.sizes,
            self.device,
            backend=backend,
            precision=precision,
            workload=workload,
            sizes_vary=self.resize == "shortest-edge",
            compile=compile,
        )
        self.backend: Backend = choice.backend
        self.backend_note = choice.note
        self.postprocessor = prepare_postprocess(detector, choice.backend.precision)

    def close(self) -> None:
        """End what still goes on in the background: a graph in the making. The predictor stays usable."""
        if isinstance(self.backend, Takeover):
            self.backend.close()

    def settle(self) -> None:
        """Wait for a graph in the making, for those who measure: from now on the same backend runs everything."""
        if isinstance(self.backend, Takeover):
            self.backend = self.backend.settle()

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by label."""
        return self.metadata.names

    @overload
    def __call__(self, picture: Picture, *, rgb: bool = False) -> Detections: ...

    @overload
    def __call__(
        self, picture: list[Any] | tuple[Any, ...], *, rgb: bool = False, batch_size: int = 1
    ) -> list[Detections]: ...

    def __call__(
        self, picture: Picture | list[Any] | tuple[Any, ...], *, rgb: bool = False, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Detect in one picture -> Detections; in a list of pictures -> a list of Detections.

        Args:
            picture: a path, a NumPy picture ([H, W, 3], [H, W, 4] or [H, W] uint8), a Pillow picture, or a list of
                these.
            rgb: NumPy pictures are RGB, not BGR as OpenCV reads them.
            batch_size: how many pictures of a list go through the network together.

        Raises:
            InputError: a file is no picture or is damaged.
            UserError: the network's output is not a number, or the memory does not suffice.
            ValueError: something in it is no picture, or ``batch_size`` is below 1.
        """
        _check_batch_size(batch_size)
        if not isinstance(picture, list | tuple):
            return self._detect_all([picture], rgb=rgb)[0]
        batches = (picture[start : start + batch_size] for start in range(0, len(picture), batch_size))
        return [found for batch in batches for found in self._detect_all(batch, rgb=rgb)]

    def stream(self, *sources: str, batch_size: int = 1, vid_stride: int = 1) -> Iterator[tuple[Frame, Detections]]:
        """Every picture and frame of ``sources`` (anything that ``detect.py`` takes) with what is in it, as it comes.

        Raises:
            UserError: no source is given, or none of that name is there.
            InputError: a source cannot be read, or not to its end; the frames before have been given.
            ValueError: ``batch_size`` is below 1.
        """
        _check_batch_size(batch_size)
        frames = chain.from_iterable(source.frames() for source in resolve_sources(sources, vid_stride=vid_stride))
        for batch in in_batches(frames, batch_size):
            yield from zip(batch, self.predict([frame.image for frame in batch]), strict=True)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """BGR pictures -> their detections in picture pixels; pictures of one network size share a pass.

        Raises:
            UserError: the network's output is not a number, or the memory does not suffice.
        """
        return self.start(images)()

    def start(self, images: Sequence[Image]) -> Callable[[], list[Detections]]:
        """As ``predict`` in two steps: resize and hand to the network now; wait for it when the result is called.

        Up to ``backend.slots`` calls in flight make it faster. Any thread may wait for the result, once.

        Raises:
            UserError: the memory does not suffice; the rest when the result is called.
        """
        waits = [self._start_at(size, images) for size in self.sizes]

        def finish() -> list[Detections]:
            found = [wait() for wait in waits]
            exponent = nms_exponent(self.detector)
            parts = zip(zip(*found, strict=True), images, strict=True)
            return [merge_detections(part, self.limits, exponent, image.shape[:2]) for part, image in parts]

        return finish

    def _start_at(self, size: tuple[int, int], images: Sequence[Image]) -> Callable[[], list[Detections]]:
        resized = [resize_for_detection(image, size, self.resize) for image in images]
        placements = [placement for _, placement in resized]
        inputs = self._padded([image for image, _ in resized])
        groups = group_by_size(inputs)
        waits = []
        for group in groups:
            batch = to_batch([inputs[index] for index in group])
            waits.append(self.start_batch(batch, [placements[index] for index in group]))

        def finish() -> list[Detections]:
            results: dict[int, Detections] = {}
            for group, wait in zip(groups, waits, strict=True):
                for index, detections in zip(group, wait(), strict=True):
                    results[index] = self._to_picture(detections, placements[index])
            return [results[index] for index in range(len(placements))]

        return finish

    def start_batch(
        self, batch: Tensor, placements: list[Placement], limits: Limits | None = None
    ) -> Callable[[], list[Detections]]:
        """As ``start`` for a batch that is made already; boxes stay in network pixels.

        Args:
            batch: uint8 [B, 3, H, W] RGB.
            placements: where each image lies in it.
            limits: other ones than the predictor's own.
        """
        precision, what = self.backend.precision, f"{len(batch)} x {batch.shape[2]}x{batch.shape[3]} pixels"
        with network_errors(self.device, precision, what):
            wait = self.backend.start(batch)

        @torch.inference_mode()
        def finish() -> list[Detections]:
            with network_errors(self.device, precision, what):
                dense = wait()
                if any(bool(raw.isnan().any()) for raw in dense.values()):
                    raise NaNOutputError
                with full_precision(self.device, precision):
                    return postprocess_placed(self.postprocessor, dense, placements, limits or self.limits)

        return finish

    def _detect_all(self, pictures: Sequence[Picture], *, rgb: bool) -> list[Detections]:
        images = [as_bgr(picture, rgb=rgb, depth=self.depth) for picture in pictures]
        return [
            replace(found, load_image=image_again(picture, image, self.depth))
            for picture, image, found in zip(pictures, images, self.predict(images), strict=True)
        ]

    def _to_picture(self, found: Detections, placement: Placement) -> Detections:
        # Clones, because what inference mode made may not be changed in place outside of it.
        return Detections(
            placement.to_image(found.boxes.cpu()),
            found.scores.cpu().clone(),
            found.labels.cpu().clone(),
            names=self.metadata.names,
            category_ids=self.metadata.category_ids,
        )

    def _padded(self, images: Sequence[NetworkImage]) -> list[NetworkImage]:
        """Fill up to multiples of the network's stride, or all to the largest (only ``shortest-edge`` needs it)."""
        if self.resize != "shortest-edge":
            return list(images)
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

    def _check_size(self, size: tuple[int, int]) -> None:
        divisor = self.detector.size_divisor
        if max(size) > MAX_INPUT_SIDE:
            raise UserError(f"image size {size[0]}x{size[1]} is too large: a side has at most {MAX_INPUT_SIDE} pixels")
        if self.resize == "shortest-edge":
            if not divides_inputs(self.detector):
                raise UserError("this network's maps do not divide its input: --resize letterbox or stretch")
        elif not size_fits(self.detector, size):
            height, width = (max(divisor, round(side / divisor) * divisor) for side in size)
            raise UserError(
                f"image size {size[0]}x{size[1]} is not a multiple of {divisor}, "
                f"the network's stride: try {height}x{width}"
            )


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
        **settings: of ``Predictor``, such as img_size=(608, 608), score_thresh=0.1, device='cuda:0'.

    Raises:
        UserError: the weights are missing, damaged, or do not fit the cfg; or a setting does not fit them.
    """
    loaded = load_for_inference(weights, darknet_cfg=darknet_cfg, names=names)
    return Predictor(loaded.detector, loaded.metadata, **settings)


def _choose_sizes(
    img_size: int | tuple[int, int] | None, pyramid: Sequence[int | tuple[int, int]] | None, metadata: Metadata
) -> tuple[tuple[int, int], ...]:
    if pyramid is None:
        given = [metadata.input.size if img_size is None else img_size]
    elif img_size is not None or not pyramid:
        raise ValueError("pyramid takes the place of img_size and has at least one size")
    else:
        given = list(pyramid)
    return tuple((size, size) if isinstance(size, int) else size for size in given)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
