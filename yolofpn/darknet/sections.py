"""Typed sections of a Darknet cfg: one frozen dataclass per kind of layer, with Darknet's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Activation = Literal["linear", "leaky", "relu", "relu6", "logistic", "mish", "swish", "ramp", "tanh", "elu"]
Normalization = Literal["none", "relu", "softmax"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True)
class Net:
    """Input settings of [net]; ``letter_box`` is None if the cfg does not set the resize mode."""

    height: int
    width: int
    letter_box: bool | None
    channels: int = 3


@dataclass(frozen=True)
class Convolutional:
    """A convolution, batch normalisation if asked for, an activation; ``padding`` in taps on each side."""

    filters: int
    size: int
    stride: int
    padding: int
    groups: int
    batch_normalize: bool
    activation: Activation
    dilation: int = 1


@dataclass(frozen=True)
class Connected:
    """A fully connected layer."""

    output: int
    batch_normalize: bool
    activation: Activation


@dataclass(frozen=True)
class ShortcutSection:
    """Adds earlier maps to the previous one; ``layers`` as written, negative ones count back from this layer.

    ``weighted``: every map, or every channel of every map, has a weight, which is normalised over the maps.
    """

    layers: tuple[int, ...]
    activation: Activation
    weighted: Literal["none", "per_feature", "per_channel"] = "none"
    normalization: Normalization = "none"


@dataclass(frozen=True)
class RouteSection:
    """Concatenates earlier maps; of ``groups`` equal parts of each map's channels only part ``group_id``."""

    layers: tuple[int, ...]
    groups: int
    group_id: int


@dataclass(frozen=True)
class ScaleChannelsSection:
    """Multiplies an earlier map by the previous one, which holds a number per channel, or (``per_pixel``) per pixel."""

    layer: int
    activation: Activation
    per_pixel: bool = False


@dataclass(frozen=True)
class Sam:
    """Multiplies the previous map by an earlier one of the same shape (spatial attention)."""

    layer: int
    activation: Activation


@dataclass(frozen=True)
class Upsample:
    """Repeats every pixel ``stride`` times in both directions."""

    stride: int


@dataclass(frozen=True)
class MaxPoolSection:
    """Maximum over windows; ``padding`` is the sum of both sides, of which the first gets the smaller half."""

    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class LocalAvgPoolSection:
    """Mean over each window without its padding; ``padding`` as in ``MaxPool``."""

    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation on its own."""


@dataclass(frozen=True)
class Activate:
    """An activation on its own."""

    activation: Activation


@dataclass(frozen=True)
class ImplicitSection:
    """Learned values that do not depend on the image: ``filters`` channels and ``atoms`` rows of one pixel."""

    filters: int
    atoms: int


@dataclass(frozen=True)
class AvgPool:
    """Mean over the whole map."""


@dataclass(frozen=True)
class ReorgSection:
    """Moves pixels into channels, in Darknet's old order ([reorg]) or the usual one ([reorg3d])."""

    stride: int
    usual: bool = False


@dataclass(frozen=True)
class Softmax:
    """Softmax over the classes of a classifier."""


@dataclass(frozen=True)
class Identity:
    """A section that does nothing in inference: [dropout], [cost]."""


@dataclass(frozen=True)
class Yolo:
    """YOLOv3's output: ``anchors`` are those of its mask, width and height in network pixels.

    ``new_coords``, ``gaussian`` and ``nms_exponent`` are those of ``MapSpec``.
    """

    classes: int
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float
    new_coords: bool = False
    gaussian: bool = False
    nms_exponent: float | None = None

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.anchors) * ((9 if self.gaussian else 5) + self.classes)


@dataclass(frozen=True)
class Region:
    """YOLOv2's output: ``anchors`` in cells; ``softmax`` over the classes instead of one logistic each."""

    classes: int
    anchors: tuple[tuple[float, float], ...]
    softmax: bool

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.anchors) * (5 + self.classes)


Section: TypeAlias = (
    Convolutional
    | Connected
    | ShortcutSection
    | RouteSection
    | ScaleChannelsSection
    | Sam
    | LocalAvgPoolSection
    | BatchNorm
    | Activate
    | ImplicitSection
    | Upsample
    | MaxPoolSection
    | AvgPool
    | ReorgSection
    | Softmax
    | Identity
    | Yolo
    | Region
)
