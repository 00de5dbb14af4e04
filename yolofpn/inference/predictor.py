"""The Python interface: ``load_detector("yolov3.weights")("dog.jpg")``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor, nn

from yolofpn.config import Metadata, ResizeMode
from yolofpn.data.images import read_image, to_bgr
from yolofpn.data.names import normalise_name
from yolofpn.errors import UserError
from yolofpn.hardware import choose_device, choose_dtype
from yolofpn.inference.sources import resolve_sources
from yolofpn.ops.resize import Placement, resize_image
from yolofpn.structures import Detections, Detector, Frame, Image, Limits
from yolofpn.weights import load_weights

Picture: TypeAlias = "str | Path | Image | PillowImage.Image"


class Predictor:
    """A detector with everything around the network: reading, resizing, thresholds, boxes in picture pixels.

    Args:
        detector: the network.
        metadata: what its weights know of themselves; the defaults of all that is not given.
        img_size: (height, width) of the network's input; for ``shortest-edge`` the (shorter, longer) side.
        resize: the way to that size.
        score_thresh: lowest score, one for all classes.
        nms_thresh: IoU above which the weaker box of a class goes.
        detections_per_img: most detections of one picture.
        classes: names or labels of the only classes wanted.
        device: where the network runs.
        precision: 'fp32', 'bf16' or 'fp16'.

    Raises:
        UserError: ``img_size`` does not fit the network, a class or the device is unknown.
    """

    def __init__(
        self,
        detector: Detector,
        metadata: Metadata,
        *,
        img_size: tuple[int, int] | None = None,
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
        self.img_size = img_size or metadata.input.size
        self.resize: ResizeMode = resize or metadata.input.resize
        self._check_img_size()
        known = detector.limits
        self.limits = Limits(
            known.score_thresh if score_thresh is None else score_thresh,
            known.nms_thresh if nms_thresh is None else nms_thresh,
            known.detections_per_img if detections_per_img is None else detections_per_img,
        )
        if classes is not None:
            self.limits = only_classes(self.limits, classes, metadata.names)
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

    def __call__(self, picture: Picture | Sequence[Picture], *, rgb: bool = False) -> Any:  # noqa: ANN401
        """Detect in one picture -> Detections; in a list of pictures -> a list of Detections.

        Args:
            picture: a path, a NumPy picture ([H, W, 3] or [H, W] uint8), a Pillow picture, or a list of these.
            rgb: NumPy pictures are RGB, not BGR as OpenCV reads them.

        Raises:
            InputError: a file is no picture or is damaged.
            ValueError: an array is no picture.
        """
        if isinstance(picture, list | tuple):
            return [self._one(item, rgb=rgb) for item in picture]
        assert not isinstance(picture, Sequence) or isinstance(picture, str)
        return self._one(picture, rgb=rgb)

    def stream(self, *sources: str, batch_size: int = 1, vid_stride: int = 1) -> Iterator[tuple[Frame, Detections]]:
        """Every picture and frame of ``sources`` (anything that ``detect.py`` takes) with what is in it, as it comes.

        Raises:
            InputError: a source cannot be read.
        """
        frames = chain.from_iterable(source.frames() for source in resolve_sources(sources, vid_stride=vid_stride))
        while batch := list(islice(frames, batch_size)):
            yield from zip(batch, self.predict([frame.image for frame in batch]), strict=True)

    @torch.inference_mode()
    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """BGR pictures -> their detections in picture pixels; pictures of one network size share a pass."""
        resized = [resize_image(image, self.img_size, self.resize) for image in images]
        results: list[Detections | None] = [None] * len(images)
        for indices in _group_by_size([network_image for network_image, _ in resized]):
            batch = torch.stack([_to_tensor(self._pad(resized[i][0])) for i in indices]).to(self.device)
            sizes = [resized[i][1].network_size for i in indices]
            for i, found in zip(indices, self._detect(batch, sizes), strict=True):
                results[i] = self._to_picture(found, resized[i][1])
        return [result for result in results if result is not None]

    def _one(self, picture: Picture, *, rgb: bool) -> Detections:
        image = as_bgr(picture, rgb=rgb)
        load_image = partial(read_image, picture) if isinstance(picture, str | Path) else partial(as_bgr, image)
        return replace(self.predict([image])[0], load_image=load_image)

    def _detect(self, batch: Tensor, sizes: list[tuple[int, int]]) -> list[Detections]:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            dense = self.detector.dense(batch)
        return self.detector.postprocess(dense, sizes, self.limits)

    def _to_picture(self, found: Detections, placement: Placement) -> Detections:
        found = found.to("cpu")
        return replace(
            found,
            boxes=placement.to_image(found.boxes),
            names=self.metadata.names,
            category_ids=self.metadata.category_ids,
        )

    def _pad(self, image: Image) -> Image:
        """Fill up to multiples of the network's stride with the mean (only ``shortest-edge`` needs it)."""
        divisor = self.detector.size_divisor
        bottom, right = -image.shape[0] % divisor, -image.shape[1] % divisor
        if not bottom and not right:
            return image
        fill = [round(value * 255) for value in reversed(self.metadata.input.mean)]
        padded = np.empty((image.shape[0] + bottom, image.shape[1] + right, 3), np.uint8)
        padded[:] = fill
        padded[: image.shape[0], : image.shape[1]] = image
        return padded

    def _check_img_size(self) -> None:
        divisor = self.detector.size_divisor
        if self.resize != "shortest-edge" and any(side % divisor for side in self.img_size):
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
        UserError: the weights are missing, damaged, or do not fit the cfg.
    """
    loaded = load_weights(
        weights,
        darknet_cfg=Path(darknet_cfg) if darknet_cfg else None,
        names=Path(names) if names else None,
    )
    return Predictor(loaded.detector, loaded.metadata, **settings)


def as_bgr(picture: Picture, *, rgb: bool = False) -> Image:
    """A path, an array or a Pillow picture -> [H, W, 3] uint8, BGR.

    Raises:
        InputError: a file is no picture or is damaged.
        ValueError: an array is no picture.
    """
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, PillowImage.Image):
        return to_bgr(picture)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"a picture is a uint8 array [H, W, 3] or [H, W], got {array.dtype} {array.shape}")
    if array.ndim == 2:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels in its last axis, got {array.shape}")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array[:, :, 2::-1] if rgb else array[:, :, :3])


def only_classes(limits: Limits, classes: Sequence[str | int], names: Sequence[str]) -> Limits:
    """``limits`` that nothing but ``classes`` (names in any spelling, or labels) can pass.

    A threshold of 1, which no score exceeds, leaves the other classes out before NMS and before the best are counted.

    Raises:
        UserError: there is no such class.
    """
    wanted = {_find_class(item, names) for item in classes}
    given = limits.score_thresh
    thresholds = given if isinstance(given, tuple) else (given,) * len(names)
    return replace(
        limits,
        score_thresh=tuple(thresh if label in wanted else 1.0 for label, thresh in enumerate(thresholds)),
    )


def _find_class(item: str | int, names: Sequence[str]) -> int:
    spelled = [normalise_name(name) for name in names]
    if isinstance(item, str) and normalise_name(item) in spelled:
        return spelled.index(normalise_name(item))
    if str(item).isdigit() and int(item) < len(names):
        return int(item)
    near = difflib.get_close_matches(str(item), names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(names[:10])} ..."
    raise UserError(f"no class {item!r} among the {len(names)} of these weights{hint}")


def _to_tensor(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image[:, :, ::-1])).permute(2, 0, 1)


def _group_by_size(images: Sequence[Image]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    return list(groups.values())
