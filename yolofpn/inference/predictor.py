"""The Python interface: ``load_detector("yolov3.weights")("dog.jpg")``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
import torch
from torch import Tensor, nn

from yolofpn.config import Metadata, ResizeMode
from yolofpn.data.images import read_image
from yolofpn.errors import InputError, UserError
from yolofpn.hardware import choose_device, choose_dtype
from yolofpn.inference.pictures import Picture, as_bgr
from yolofpn.inference.selection import choose_limits
from yolofpn.inference.sources import resolve_sources
from yolofpn.ops.resize import Placement, resize_image
from yolofpn.structures import Detections, Detector, Frame, Image
from yolofpn.weights import load_weights


class Predictor:
    """A detector with everything around the network: reading, resizing, thresholds, boxes in picture pixels.

    Args:
        detector: the network.
        metadata: what its weights know of themselves; the defaults of all that is not given.
        img_size: (height, width) of the network's input, or one number for both; for ``shortest-edge`` the
            (shorter, longer) side.
        resize: the way to that size.
        score_thresh: lowest score, one for all classes, in [0, 1].
        nms_thresh: IoU above which the weaker box of a class goes, in [0, 1].
        detections_per_img: most detections of one picture.
        classes: names or labels of the only classes wanted.
        device: where the network runs: 'auto', 'cpu', 'cuda:0', 'mps'.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'.

    Attributes:
        limits: the thresholds in force.

    Raises:
        UserError: ``img_size`` does not fit the network, a class or the device is unknown.
        ValueError: a threshold is out of its range, or there is no such ``resize`` or ``precision``.
    """

    def __init__(
        self,
        detector: Detector,
        metadata: Metadata,
        *,
        img_size: int | tuple[int, int] | None = None,
        resize: ResizeMode | None = None,
        score_thresh: float | None = None,
        nms_thresh: float | None = None,
        detections_per_img: int | None = None,
        classes: Sequence[str | int] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.detector = detector
        self.metadata = metadata
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else img_size or metadata.input.size
        self.resize: ResizeMode = resize or metadata.input.resize
        if self.resize not in get_args(ResizeMode):
            raise ValueError(f"resize {self.resize!r} is none of {', '.join(get_args(ResizeMode))}")
        self._check_img_size()
        self.limits = choose_limits(
            detector.limits,
            metadata.names,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            classes=classes,
        )
        self.device = choose_device(device)
        # Without a check of what it changes, auto keeps the full precision.
        self.dtype = choose_dtype("fp32" if precision == "auto" else precision, self.device)
        assert isinstance(detector, nn.Module)
        detector.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        detector.eval()

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
        for batch in _in_batches(frames, batch_size):
            yield from zip(batch, self.predict([frame.image for frame in batch]), strict=True)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """BGR pictures -> their detections in picture pixels; pictures of one network size share a pass.

        Raises:
            UserError: the network's output is not a number, or the memory does not suffice.
        """
        resized = [resize_image(image, self.img_size, self.resize) for image in images]
        inputs = [self._pad(image) for image, _ in resized]
        placements = [placement for _, placement in resized]
        results: dict[int, Detections] = {}
        for indices in _group_by_size(inputs):
            batch = torch.stack([_to_tensor(inputs[index]) for index in indices])
            found = self._run_network(batch, [placements[index].network_size for index in indices])
            for index, detections in zip(indices, found, strict=True):
                results[index] = self._to_picture(detections, placements[index])
        return [results[index] for index in range(len(images))]

    def _detect_all(self, pictures: Sequence[Picture], *, rgb: bool) -> list[Detections]:
        images = [as_bgr(picture, rgb=rgb) for picture in pictures]
        return [
            # A file is read again if its picture is wanted; anything else is kept.
            replace(found, load_image=partial(read_image, picture) if isinstance(picture, str | Path) else image.copy)
            for picture, image, found in zip(pictures, images, self.predict(images), strict=True)
        ]

    @torch.inference_mode()
    def _run_network(self, batch: Tensor, sizes: list[tuple[int, int]]) -> list[Detections]:
        """uint8 [B, 3, H, W] and each picture's (height, width) in it -> detections in network pixels."""
        try:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                dense = self.detector.dense(batch.to(self.device))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                pictures = f"{len(batch)} x {batch.shape[2]}x{batch.shape[3]} pixels"
                raise UserError(
                    f"the memory of {self.device} does not suffice for {pictures}: lower the batch or image size"
                ) from None
            raise
        if any(bool(raw.isnan().any()) for raw in dense.values()):
            remedy = "fetch or train them again" if self.dtype == torch.float32 else "try precision fp32"
            raise UserError(f"the network's output is not a number (NaN): the weights are damaged: {remedy}")
        return self.detector.postprocess(dense, sizes, self.limits)

    def _to_picture(self, found: Detections, placement: Placement) -> Detections:
        # Clones, because what inference mode made may not be changed in place outside of it.
        return Detections(
            placement.to_image(found.boxes.cpu()),
            found.scores.cpu().clone(),
            found.labels.cpu().clone(),
            names=self.metadata.names,
            category_ids=self.metadata.category_ids,
        )

    def _pad(self, image: Image) -> Image:
        """Fill up to multiples of the network's stride with the mean (only ``shortest-edge`` needs it)."""
        divisor = self.detector.size_divisor
        bottom, right = -image.shape[0] % divisor, -image.shape[1] % divisor
        if not bottom and not right:
            return image
        padded = np.empty((image.shape[0] + bottom, image.shape[1] + right, 3), np.uint8)
        padded[:] = [round(value * 255) for value in reversed(self.metadata.input.mean)]
        padded[: image.shape[0], : image.shape[1]] = image
        return padded

    def _check_img_size(self) -> None:
        divisor = self.detector.size_divisor
        if self.resize != "shortest-edge" and any(side < 1 or side % divisor for side in self.img_size):
            height, width = (max(divisor, round(side / divisor) * divisor) for side in self.img_size)
            raise UserError(
                f"image size {self.img_size[0]}x{self.img_size[1]} is no multiple of {divisor}, "
                f"the network's stride: try {height}x{width}"
            )


def load_detector(
    weights: str | Path = "auto",
    *,
    darknet_cfg: str | Path | None = None,
    names: str | Path | None = None,
    **settings: Any,  # noqa: ANN401
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
    loaded = load_weights(weights, darknet_cfg=darknet_cfg, names=names)
    return Predictor(loaded.detector, loaded.metadata, **settings)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _in_batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of ``size`` frames; those before the end, and before an error, may be fewer."""
    batch: list[Frame] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except InputError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _to_tensor(image: Image) -> Tensor:
    """[H, W, 3] uint8, BGR -> [3, H, W] uint8, RGB."""
    return torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1)


def _group_by_size(images: Sequence[Image]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    return list(groups.values())
