"""What the sections of a Darknet cfg say: one frozen type per kind of layer, in Darknet's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Activation = Literal["linear", "leaky", "relu", "relu6", "logistic", "mish", "swish"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True)
class Net:
    """What [net] says of the input; ``letter_box`` is None where the cfg leaves the way of resizing open."""

    height: int
    width: int
    letter_box: bool | None


@dataclass(frozen=True)
class Convolutional:
    """A convolution, batch normalisation if asked for, an activation; ``padding`` in pixels on each side."""

    filters: int
    size: int
    stride: int
    padding: int
    groups: int
    batch_normalize: bool
    activation: Activation


@dataclass(frozen=True)
class Connected:
    """A fully connected layer."""

    output: int
    batch_normalize: bool
    activation: Activation


@dataclass(frozen=True)
class Shortcut:
    """Adds earlier maps to the previous one; ``layers`` as written, negative ones count back from this layer."""

    layers: tuple[int, ...]
    activation: Activation


@dataclass(frozen=True)
class Route:
    """Concatenates earlier maps; of ``groups`` equal parts of each map's channels only part ``group_id``."""

    layers: tuple[int, ...]
    groups: int
    group_id: int


@dataclass(frozen=True)
class ScaleChannels:
    """Multiplies an earlier map by the previous one, which holds one number per channel."""

    layer: int
    activation: Activation


@dataclass(frozen=True)
class Upsample:
    """Repeats every pixel ``stride`` times in both directions."""

    stride: int


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; ``padding`` is the sum of both sides, of which the first gets the smaller half."""

    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class AvgPool:
    """Mean over the whole map."""


@dataclass(frozen=True)
class Reorg:
    """Darknet's way of moving pixels into channels."""

    stride: int


@dataclass(frozen=True)
class Softmax:
    """Turns a classifier's last numbers into probabilities."""


@dataclass(frozen=True)
class Identity:
    """A section that does nothing in inference: [dropout], [cost]."""


@dataclass(frozen=True)
class Yolo:
    """YOLOv3's output: ``anchors`` are those of its mask, width and height in network pixels."""

    classes: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float


@dataclass(frozen=True)
class Region:
    """YOLOv2's output: ``anchors`` in cells; ``softmax`` over the classes instead of one logistic each."""

    classes: int
    anchors: tuple[tuple[float, float], ...]
    softmax: bool


Section: TypeAlias = (
    Convolutional
    | Connected
    | Shortcut
    | Route
    | ScaleChannels
    | Upsample
    | MaxPool
    | AvgPool
    | Reorg
    | Softmax
    | Identity
    | Yolo
    | Region
)
