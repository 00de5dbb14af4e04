"""The values that travel through the project, and the letters that its shape comments use.

Shapes:
    B images in a batch, C classes, A anchors per cell, N predictions of one image over all levels,
    D detections of one image, M ground-truth boxes of one image, H and W a height and a width in pixels or cells.

Boxes are float xyxy in pixels; the origin is the outer corner of the top left pixel, so a box that covers an
image of W x H pixels is (0, 0, W, H). Labels are 0 .. C-1, there is no background class. NumPy images are BGR
as OpenCV reads them; tensors are RGB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolofpn.types import Arrays, Index, rows_of, to_array
from yolofpn.types import Image as Image

if TYPE_CHECKING:
    import pandas
    import supervision
    import torch
    from torch import Tensor

    from yolofpn.drawing import LabelStyle
    from yolofpn.track_info import TrackInfo


@dataclass(frozen=True)
class FeatureInfo:
    """Channels and stride of a feature map."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Limits:
    """Thresholds and maximum number of detections.

    Attributes:
        score_thresh: score threshold, which scores must exceed, in [0, 1]; one for all classes or one per class.
        nms_thresh: IoU above which the lower-scoring of two boxes of one class is suppressed.
        detections_per_img: maximum detections per image; those of the highest scores are kept.
    """

    score_thresh: float | tuple[float, ...] = 0.25
    nms_thresh: float = 0.45
    detections_per_img: int = 300


@dataclass(frozen=True, eq=False)
class Target:
    """The ground truth of one image, in pixels of that image.

    Attributes:
        boxes: [M, 4] float32 xyxy.
        labels: [M] int64 in 0 .. C-1.
        ignore: [M] bool; regions that are neither object nor background: COCO's crowds, VOC's difficult objects, and
            objects of which a crop left too little visible.
        areas: [M] float32, the annotated area (COCO: of the mask), by which objects are small, medium or large.
        image_id: the data set's id of the image.
        image_size: (height, width) of the image before padding; None: it is not padded.
        proposals: [P, 4] float32 xyxy, precomputed proposals for Fast R-CNN.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    areas: Tensor
    image_id: int = 0
    image_size: tuple[int, int] | None = None
    proposals: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes must be [M, 4], got {tuple(self.boxes.shape)}")
        for name in ("labels", "ignore", "areas"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{name} must be [{count}], got {tuple(getattr(self, name).shape)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Target:
        """Select objects and ignore regions by an integer, slice, mask or indices; keep all proposals."""
        rows = rows_of(index, len(self))
        return replace(
            self, boxes=self.boxes[rows], labels=self.labels[rows], ignore=self.ignore[rows], areas=self.areas[rows]
        )

    def map_boxes(self, move: Callable[[Tensor], Tensor]) -> Target:
        """The same target with ``move`` applied to its boxes and its proposals, [..., 4] xyxy; areas stay."""
        proposals = None if self.proposals is None else move(self.proposals)
        return replace(self, boxes=move(self.boxes), proposals=proposals)

    def to(self, device: torch.device | str) -> Target:
        """Return the target with its tensors on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("boxes", "labels", "ignore", "areas")}
        return replace(self, **moved, proposals=None if self.proposals is None else self.proposals.to(device))


@dataclass(frozen=True)
class WholeImage:
    """The image that a reduced one was decoded from.

    Attributes:
        size: (height, width) in pixels.
        scale: (vertical, horizontal) pixels of the whole image per pixel of the reduced one.
        read: decodes it; raises InputError if it is no longer readable.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    read: Callable[[], Image]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, or one frame of a video or stream.

    Attributes:
        image: [H, W, 3] uint8, BGR, or bands.
        source: file or URL, as printed and written to files, without password.
        index: frame number within its source; 0 for an image.
        time: presentation time in seconds from the start of its source; 0.0 for an image.
        clock: when a live frame was captured (UTC); None for files.
        stale: True if a live source without new frames repeats its last one.
        dropped: frames of a live source skipped since the previous one.
        duration: display time in seconds; None for images and live frames.
        whole: the image to draw on, if ``image`` was decoded at a reduced size or is multi-band; else None.
    """

    image: Image
    source: str
    index: int = 0
    time: float = 0.0
    clock: datetime | None = None
    stale: bool = False
    dropped: int = 0
    duration: float | None = None
    whole: WholeImage | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the whole image."""
        return (self.image.shape[0], self.image.shape[1]) if self.whole is None else self.whole.size

    def whole_image(self) -> Image:
        """[H, W, 3] uint8, BGR: ``image``, decoded again if it is reduced; of bands those that are drawn."""
        return self.image if self.whole is None else self.whole.read()


@dataclass(frozen=True, repr=False, eq=False, init=False)
class Detections:
    """The detections of one image, by descending score.

    Behaves like a sequence: ``len``, iteration, and indexing by integer, slice, boolean mask or index array, each
    of which gives Detections again.

    Attributes:
        boxes: [D, 4] float32 xyxy, pixels.
        scores: [D] float32 in [0, 1], descending.
        labels: [D] int64 in 0 .. C-1.
        names: class names by label; empty where they are not known.
        category_ids: the data set's id of each label; empty where it is the label itself.
        load_image: returns the image of the detections, for ``show``.
        track_ids: [D] int64, the object's id within its source, from 1; -1: not (yet) tracked. None without tracking.
        tracks: trails and counts up to this frame; None without tracking.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    load_image: Callable[[], Image] | None = None
    track_ids: NDArray[np.int64] | None = None
    tracks: TrackInfo | None = None

    def __init__(
        self,
        boxes: Arrays,
        scores: Arrays,
        labels: Arrays,
        names: tuple[str, ...] = (),
        category_ids: tuple[int, ...] = (),
        load_image: Callable[[], Image] | None = None,
        track_ids: Arrays | None = None,
        tracks: TrackInfo | None = None,
    ) -> None:
        """Accept arrays or tensors; store arrays.

        Raises:
            ValueError: the shapes do not match.
        """
        fields = {
            "boxes": to_array(boxes, np.float32),
            "scores": to_array(scores, np.float32),
            "labels": to_array(labels, np.int64),
            "names": names,
            "category_ids": category_ids,
            "load_image": load_image,
            "track_ids": None if track_ids is None else to_array(track_ids, np.int64),
            "tracks": tracks,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)  # the way that frozen dataclasses leave open
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes must be [D, 4], got {self.boxes.shape}")
        for name in ("scores", "labels", "track_ids"):
            value = getattr(self, name)
            if value is not None and value.shape != (count,):
                raise ValueError(f"{name} must be [{count}] as there are {count} boxes, got {value.shape}")

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Detections:
        rows = rows_of(index if isinstance(index, int | slice) else to_array(index), len(self))
        track_ids = None if self.track_ids is None else self.track_ids[rows]
        return replace(
            self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows], track_ids=track_ids
        )

    def __iter__(self) -> Iterator[Detections]:
        return (self[index] for index in range(len(self)))

    def name_of(self, label: int) -> str:
        """The class name of ``label``, or its number where no names are known."""
        return self.names[label] if self.names else str(label)

    def _label_of(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"{name!r} is none of the classes {', '.join(self.names) or '(no names are known)'}")
        return self.names.index(name)

    def counts(self) -> dict[str, int]:
        """Return the number of detections of each class, the most frequent first."""
        return dict(Counter(self.name_of(label) for label in self.labels.tolist()).most_common())

    def filter(
        self, *, score_thresh: float = 0.0, classes: str | int | Sequence[str | int] | None = None
    ) -> Detections:
        """Return detections with a score above ``score_thresh`` and, if given, of ``classes``: names, labels, or one.

        Raises:
            ValueError: a class name is not among the names.
        """
        keep = self.scores > score_thresh
        if classes is not None:
            items = [classes] if isinstance(classes, str | int) else classes  # of "dog" the letters are never meant
            wanted = [self._label_of(c) if isinstance(c, str) else c for c in items]
            keep &= np.isin(self.labels, wanted)
        return self[keep]

    def torch(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Copies of ``boxes``, ``scores`` and ``labels`` as tensors on ``device``, named as in torchvision.

        Raises:
            UserError: there is no such device here.
        """
        from yolofpn.conversions import to_tensors

        return to_tensors(self, device)

    def __repr__(self) -> str:
        found = ", ".join(
            f"{self.name_of(label)} {score:.2f}"
            for label, score in zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        )
        return f"Detections({len(self)}: {found})" if len(self) else "Detections(nothing found)"

    def draw(self, image: Image, *, labels: LabelStyle = "score") -> Image:
        """A copy of ``image`` with the detections drawn on it, the best ones on top, [H, W, 3] uint8, BGR.

        Args:
            image: the image of the detections. 8-bit images, [H, W, 3] BGR, [H, W, 4] BGRA (alpha is ignored) or gray
                [H, W] or [H, W, 1], keep their values. Of images of other types or numbers of channels, the
                first three bands, or the only one as gray, are stretched to 8 bits.
            labels: label text: 'score' (name and score), 'name' or 'none'.
        """
        from yolofpn.bands import drawable
        from yolofpn.drawing import box_texts, draw_boxes

        image = drawable(image)
        names = [self.name_of(label) for label in self.labels.tolist()]
        track_ids = [-1] * len(self) if self.track_ids is None else self.track_ids.tolist()
        colours = [track if track >= 0 else label for track, label in zip(track_ids, self.labels.tolist(), strict=True)]
        below = image if self.tracks is None else self.tracks.draw(image)
        return draw_boxes(below, self.boxes, colours, box_texts(names, self.scores.tolist(), track_ids, labels))

    def show(self, image: Image | None = None) -> None:
        """Show the image with the boxes: inline in a notebook, else in the system's image viewer.

        Args:
            image: [H, W, 3] uint8, BGR; by default the image that was detected on.

        Raises:
            ValueError: no image is given, and none is stored with the detections.
        """
        from yolofpn.drawing import show_image

        if image is None:
            if self.load_image is None:
                raise ValueError("these detections have no image: call show(image)")
            image = self.load_image()
        show_image(self.draw(image))

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: image_id, category_id, bbox [x, y, width, height] and score, and track_id if tracked."""
        from yolofpn.conversions import to_coco

        return to_coco(self, image_id)

    def to_pandas(self) -> pandas.DataFrame:
        """A table with columns x1, y1, x2, y2, score, label, name, and track_id if tracked.

        Raises:
            UserError: pandas is not installed.
        """
        from yolofpn.conversions import to_pandas

        return to_pandas(self)

    def to_supervision(self) -> supervision.Detections:
        """Convert to ``supervision.Detections``.

        Raises:
            UserError: supervision is not installed.
        """
        from yolofpn.conversions import to_supervision

        return to_supervision(self)
