"""Bringing an image to the network's size, and boxes there and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolofpn.bands import with_channels
from yolofpn.opencv import cv2
from yolofpn.ops.array_boxes import Floats, clip_boxes
from yolofpn.types import Arrays, Image, ResizeMode, to_array

if TYPE_CHECKING:
    from torch import Tensor

LETTERBOX_FILL = 128  # Darknet's 0.5

NetworkImage: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]  # [H, W, N] of the range 0..255, three are BGR


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input: ``network = image * scale + offset`` along each axis.

    Attributes:
        scale_x: width after resizing / width of the image, as really applied (sizes are whole pixels).
        scale_y: the same of the heights.
        offset_x: columns of padding left of the image.
        offset_y: rows of padding above it.
        image_size: (height, width) of the image.
        network_size: (height, width) of the network's input, padding included.
    """

    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int
    image_size: tuple[int, int]
    network_size: tuple[int, int]

    @property
    def region_size(self) -> tuple[int, int]:
        """(height, width) of the image in the network's input, without padding."""
        return round(self.image_size[0] * self.scale_y), round(self.image_size[1] * self.scale_x)

    def for_whole(self, size: tuple[int, int], scale: tuple[float, float]) -> Placement:
        """The placement of the image of which this is that of a reduced one.

        Args:
            size: (height, width) of the whole image.
            scale: (vertical, horizontal) pixels of it to one of the reduced image.
        """
        return replace(self, scale_x=self.scale_x / scale[1], scale_y=self.scale_y / scale[0], image_size=size)

    def to_network(self, boxes: Tensor) -> Tensor:
        """[..., 4] float xyxy in pixels of the image -> in pixels of the network's input."""
        scale, offset = (self.scale_x, self.scale_y) * 2, (self.offset_x, self.offset_y) * 2
        return boxes * boxes.new_tensor(scale) + boxes.new_tensor(offset)

    def to_image(self, boxes: Arrays) -> Floats:
        """[..., 4] float xyxy in pixels of the network's input -> in pixels of the image, clipped to it."""
        boxes = to_array(boxes)
        offset = np.array((self.offset_x, self.offset_y) * 2, boxes.dtype)
        return clip_boxes((boxes - offset) / np.array((self.scale_x, self.scale_y) * 2, boxes.dtype), self.image_size)


def resize_image(image: Image, size: tuple[int, int], mode: ResizeMode) -> tuple[Image, Placement]:
    """Resize an image for the network, bilinearly as OpenCV does.

    Args:
        image: [H, W, 3] uint8, BGR, or [H, W, N] float32 of the same range.
        size: (height, width) of the result; for ``shortest-edge`` (length of the shorter side, limit of the longer).
        mode: ``letterbox`` keeps the proportions and pads evenly with gray, in Darknet's whole numbers; ``stretch``
            does not keep them; ``shortest-edge`` keeps them and pads nothing, so its result varies in size.

    Returns:
        [h, w, N] of the same type, and where the image lies in it.

    Raises:
        ValueError: if the image is empty or none of these, the size is not positive, or there is no such mode.
    """
    _check(image, size)
    image_size = (image.shape[0], image.shape[1])
    match mode:
        case "letterbox":
            height, width = letterbox_size(image_size, size)
        case "stretch":
            height, width = size
        case "shortest-edge":
            height, width = size = shortest_edge_size(image_size, *size)
        case _:
            raise ValueError(f"mode must be letterbox, stretch or shortest-edge, got {mode!r}")
    resized = with_channels(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    if (height, width) != size:
        canvas = np.full((*size, image.shape[2]), LETTERBOX_FILL, dtype=image.dtype)
        canvas[top : top + height, left : left + width] = resized
        resized = canvas
    return resized, _place(image_size, (height, width), (top, left), size)


def resize_for_detection(image: Image, size: tuple[int, int], mode: ResizeMode) -> tuple[NetworkImage, Placement]:
    """``resize_image``, but ``shortest-edge`` rounds no value: weights of that mode come from networks that do not.

    Returns:
        [h, w, N], for ``shortest-edge`` float32, else of the same type, and where the image lies in it.

    Raises:
        ValueError: as ``resize_image``.
    """
    if mode != "shortest-edge":
        return resize_image(image, size, mode)
    _check(image, size)
    image_size = (image.shape[0], image.shape[1])
    height, width = shortest_edge_size(image_size, *size)
    import torch  # graphs take images of one size, so nothing that comes here does without it
    from torch.nn import functional

    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    # Not OpenCV: it places samples to 1 / 2048 of a pixel, which second stages amplify to visible differences.
    resized = functional.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)[0]
    return np.ascontiguousarray(resized.permute(1, 2, 0).numpy()), _place(
        image_size, (height, width), (0, 0), (height, width)
    )


def resized_size(image_size: tuple[int, int], size: tuple[int, int], mode: ResizeMode) -> tuple[int, int]:
    """(height, width) that ``resize_image`` gives an image, without padding.

    Args:
        image_size: (height, width) of the image.
        size: as of ``resize_image``.
        mode: as of ``resize_image``.
    """
    if mode == "letterbox":
        return letterbox_size(image_size, size)
    return size if mode == "stretch" else shortest_edge_size(image_size, *size)


def letterbox_size(image_size: tuple[int, int], network_size: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the image's proportions that fits, rounded down as in Darknet."""
    height, width = image_size
    network_height, network_width = network_size
    if network_width * height < network_height * width:
        return max(height * network_width // width, 1), network_width
    return network_height, max(width * network_height // height, 1)


def shortest_edge_size(image_size: tuple[int, int], shorter: int, longer: int) -> tuple[int, int]:
    """(height, width) of the image's proportions: the shorter side reaches ``shorter`` unless the longer forbids.

    Args:
        image_size: (height, width) of the image.
        shorter: wanted length of the shorter side.
        longer: limit of the longer side (Faster R-CNN's 600 and 1000: arXiv 1506.01497, section 3.3).
    """
    scale = min(shorter / min(image_size), longer / max(image_size))
    height, width = (max(math.floor(side * scale), 1) for side in image_size)  # rounded down as in torchvision
    return height, width


def _check(image: Image, size: tuple[int, int]) -> None:
    is_colour = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not (is_colour or (image.dtype == np.float32 and image.ndim == 3)) or image.size == 0:
        raise ValueError(f"image must be uint8 [H, W, 3] and not empty, got {image.dtype} {list(image.shape)}")
    if min(size) < 1:
        raise ValueError(f"size must be positive, got {size}")


def _place(
    image_size: tuple[int, int], resized_size: tuple[int, int], offset: tuple[int, int], network_size: tuple[int, int]
) -> Placement:
    return Placement(
        scale_x=resized_size[1] / image_size[1],
        scale_y=resized_size[0] / image_size[0],
        offset_x=offset[1],
        offset_y=offset[0],
        image_size=image_size,
        network_size=network_size,
    )


def fill_up(image: NetworkImage, size: tuple[int, int], mean: Sequence[float]) -> NetworkImage:
    """Pad an image below and on its right with the mean, which normalises to zero.

    Args:
        image: [H, W, N]; three channels are BGR.
        size: (height, width) of the result, not below that of the image.
        mean: of each channel in [0, 1]; of three, in the order RGB.

    Returns:
        [height, width, N] of the same type; the image itself if it has the size.
    """
    if image.shape[:2] == size:
        return image
    fill = np.array([255 * value for value in (reversed(mean) if len(mean) == 3 else mean)])
    padded = np.empty((*size, len(mean)), image.dtype)
    padded[:] = fill if image.dtype == np.float32 else fill.round()
    padded[: image.shape[0], : image.shape[1]] = image
    return padded
