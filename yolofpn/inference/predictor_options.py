"""Options of ``Predictor``, shared by the command line and Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape, has_magic
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict, get_args

from yolofpn.addresses import STREAM_SCHEMES
from yolofpn.bands import Bands
from yolofpn.config import InputConfig
from yolofpn.data.images import VIDEO_SUFFIXES
from yolofpn.errors import UserError
from yolofpn.fields import Depth
from yolofpn.sources.patterns import matching_paths
from yolofpn.types import ResizeMode

# few: the next image may be the last; live: each result is awaited; many: it is the sum that counts.
Workload: TypeAlias = Literal["few", "live", "many"]
MANY = 200  # images that are worth the seconds that a faster graph takes to make


def expected_workload(specs: Sequence[str]) -> Workload:
    """Return the workload of sources of ``detect.py``; 'live' if one is a camera or a stream."""
    if any(spec.isdecimal() or spec.partition("://")[0].lower() in STREAM_SCHEMES for spec in specs):
        return "live"
    if len(specs) >= MANY or any(_holds_much(Path(spec)) for spec in specs):
        return "many"
    return "few"


def _holds_much(path: Path) -> bool:
    if path.suffix.lower() in VIDEO_SUFFIXES or path.suffix == ".txt":
        return True
    pattern = str(path) if has_magic(str(path)) else str(Path(escape(str(path)), "**"))
    names = [Path(name) for name in islice(matching_paths(pattern), MANY)]
    return len(names) >= MANY or any(name.suffix.lower() in VIDEO_SUFFIXES for name in names)


Size = int | tuple[int, int]
LEAST_TILE = 32  # pixels
MOST_OVERLAP = 0.9  # each step of a tenth of a tile makes ten times ten tiles


@dataclass(frozen=True, kw_only=True)
class PredictorOptions:
    """Options of a predictor; None: the value stored in the weights.

    Attributes:
        img_size: (height, width) of the network's input, or one number for both; for ``shortest-edge`` the
            (shorter, longer) side.
        pyramid: several such sizes, at each of which the detector processes each image.
        resize: the resize mode; 'auto' is None.
        depth: white level of image files of more than 8 bits: 'auto', '12', '16' or 'minmax'.
        bands: for multi-band weights, the bands drawn as red, green and blue, counted from 1.
        score_thresh: score threshold, one for all classes, in [0, 1].
        nms_thresh: IoU above which the lower-scoring box of a class is suppressed, in [0, 1].
        detections_per_img: maximum detections per image.
        classes: names or labels of the only classes to detect.
        device: where the network runs: 'auto', 'cpu', 'cuda:0', 'mps'.
        backend: what runs the network: 'auto', 'torch' or a runtime such as 'openvino'; see ``choose_backend``.
        precision: 'auto' (fp32, or what ``yolofpn tune`` chose), 'fp32', 'bf16' or 'fp16'; 'int8' if the weights are
            an int8 graph.
        workload: how CPU cores are shared: for 'few' images, a 'live' source, or 'many' images.
        compile: compile the torch backend with torch.compile.
        tile: (height, width) of tiles, in image pixels, or one number for both; 'auto': the network's input size. The
            detector processes each tile of larger images, and each image as a whole.
        overlap: minimum fraction of a tile, in [0, .9], that it shares with the next one.
        pad_batches: with ``shortest-edge``, pad images of different sizes to the largest so that they share a batch,
            which changes their detections slightly.

    Raises:
        ValueError: there is no such ``resize``, ``pyramid`` is empty, or it is given beside ``img_size``; ``tile`` or
            ``overlap`` is out of its range.
    """

    img_size: Size | None = None
    pyramid: Sequence[Size] | None = None
    resize: Literal["auto"] | ResizeMode | None = None
    depth: Depth | None = None
    bands: tuple[int, int, int] | None = None
    score_thresh: float | None = None
    nms_thresh: float | None = None
    detections_per_img: int | None = None
    classes: Sequence[str | int] | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    workload: Workload = "few"
    compile: bool = False
    pad_batches: bool = False
    tile: Size | Literal["auto"] | None = None
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.resize not in (None, "auto", *get_args(ResizeMode)):
            raise ValueError(f"resize {self.resize!r} is none of {', '.join(get_args(ResizeMode))}")
        if self.pyramid is not None and (self.img_size is not None or not self.pyramid):
            raise ValueError("pyramid takes the place of img_size and has at least one size")
        if isinstance(self.tile, int | tuple) and min(_both(self.tile)) < LEAST_TILE:
            raise ValueError(f"a side of a tile has at least {LEAST_TILE} pixels, got {self.tile}")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise ValueError(f"overlap must be in [0, {MOST_OVERLAP}], got {self.overlap}")

    def reading(self, input: InputConfig) -> Depth | Bands:
        """How images are read for a network with this input.

        Raises:
            UserError: ``depth`` is given for weights that take all bits as they are, or ``bands`` are not theirs.
        """
        if input.is_plain:
            if self.bands is not None:
                raise UserError("--bands applies to multi-band weights only, these take 8-bit colours: omit it")
            return self.depth or input.depth
        if self.depth not in (None, "auto"):
            raise UserError("--depth applies to weights of 8-bit colours only, these use all bits: omit it")
        if self.bands is not None and not all(1 <= band <= input.channels for band in self.bands):
            given = ",".join(map(str, self.bands))
            raise UserError(f"--bands {given}: these weights have the bands 1 to {input.channels}")
        reading = input.reading
        assert isinstance(reading, Bands)
        return reading if self.bands is None else replace(reading, shown=self.bands)

    def sizes(self, default: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """The (height, width) of each size that the detector looks at; ``default`` is that of the weights."""
        given = self.pyramid or [default if self.img_size is None else self.img_size]
        return tuple(_both(size) for size in given)

    def tile_size(self, img_size: tuple[int, int]) -> tuple[int, int] | None:
        """The (height, width) of a tile for a network input of (height, width); None: no tiles."""
        if self.tile is None or self.tile == "auto":
            return None if self.tile is None else img_size
        return _both(self.tile)


def _both(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class PredictorSettings(TypedDict, total=False):
    """The fields of ``PredictorOptions`` as keyword arguments."""

    img_size: Size | None
    pyramid: Sequence[Size] | None
    resize: Literal["auto"] | ResizeMode | None
    depth: Depth | None
    bands: tuple[int, int, int] | None
    score_thresh: float | None
    nms_thresh: float | None
    detections_per_img: int | None
    classes: Sequence[str | int] | None
    device: str
    backend: str
    precision: str
    workload: Workload
    compile: bool
    pad_batches: bool
    tile: Size | Literal["auto"] | None
    overlap: float
