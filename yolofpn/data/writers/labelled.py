"""What label writers are given, and how they write numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:  # the sinks and --help import this, too
    import numpy as np
    from numpy.typing import NDArray

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


@dataclass(frozen=True)
class WrittenObject:
    """An object, or a detection that somebody will correct.

    Attributes:
        name: its class.
        label: number of the class.
        box: x1, y1, x2, y2 in pixels between the pixels' outer corners, in the fewest digits that are exact.
        ignore: neither object nor background.
        area: as annotated, in pixels; None for that of the box.
        score: of a detection.
    """

    name: str
    label: int
    box: tuple[Decimal, Decimal, Decimal, Decimal]
    ignore: bool = False
    area: float | None = None
    score: float | None = None


@dataclass(frozen=True)
class WrittenImage:
    """An image with its objects.

    Attributes:
        name: its path relative to the image folder of its split.
        size: (height, width) in pixels.
        objects: in their order.
        labelled: False if nobody has labelled it; such an image has no objects.
        image_id: the data set's.
        reference: path of the image relative to its label file, where a format needs it.
    """

    name: str
    size: tuple[int, int]
    objects: Sequence[WrittenObject]
    labelled: bool = True
    image_id: int | str = 0
    reference: str = ""


@dataclass(frozen=True)
class WrittenSplit:
    """A split of the data set to be written.

    Attributes:
        name: ``train``, ``val``, ...
        images: all of them.
        names: class names by label.
        category_ids: id of each label.
        voc_corners: convention of the corners in VOC's XML: ``devkit``, or ``cvat`` for 0-based edges.
    """

    name: str
    images: Sequence[WrittenImage]
    names: tuple[str, ...]
    category_ids: tuple[int | str, ...]
    voc_corners: str = "devkit"

    @property
    def objects(self) -> Iterator[WrittenObject]:
        """The objects of all images."""
        return (entry for image in self.images for entry in image.objects)


class LabelWriter(Protocol):
    """A label format that can be written; ``{split}`` in its paths is the split's name.

    Attributes:
        key: its name for ``--format``, which is that of its reader.
        help: what it writes, in a few words.
        image_folder: where the images of a split belong.
        root: the folder that image names in the label file are relative to.
        annotations: the file, or the folder of the label files, of a split.
        suffix: of the label files, where each image has its own; such images need different stems.
        flat: whether tools look for images in that folder only: what lies deeper, ``a/b.png``, becomes ``a__b.png``.
        keeps: the facts that it can hold, besides boxes and classes: "ignore", "area", "ids",
            "unlabelled" (images that nobody has labelled), "background" (labelled images without an object).
    """

    key: ClassVar[str]
    help: ClassVar[str]
    image_folder: ClassVar[str]
    root: ClassVar[str]
    annotations: ClassVar[str]
    suffix: ClassVar[str | None]
    flat: ClassVar[bool]
    keeps: ClassVar[frozenset[str]]

    @staticmethod
    def files(split: WrittenSplit) -> Iterable[tuple[str, str]]:
        """Path relative to the output folder, and content, of each label file of a split."""
        ...

    @staticmethod
    def shared_files(splits: Sequence[WrittenSplit]) -> Iterable[tuple[str, str]]:
        """The same of the files for all splits together."""
        ...


def exact(boxes: NDArray[np.float32]) -> list[tuple[Decimal, Decimal, Decimal, Decimal]]:
    """[T, 4] xyxy -> the shortest decimals that are these numbers in single precision: sums of them stay short."""
    rows = ([Decimal(str(side)) for side in box] for box in boxes)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in rows]


def plain(value: Decimal | float) -> int | float:
    """A number as JSON has it: 12, not 12.0."""
    number = float(value)
    return int(number) if number.is_integer() else number


def text(value: Decimal | float, digits: int | None = None) -> str:
    """A number without exponent and trailing zeros, at most ``digits`` behind the point."""
    written = f"{value:f}" if digits is None else f"{value:.{digits}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def label_files(
    split: WrittenSplit, folder: str, suffix: str, content: Callable[[WrittenImage], str]
) -> Iterator[tuple[str, str]]:
    """Yield path and content of a file in ``folder`` for each labelled image of a split."""
    for image in split.images:
        if image.labelled:
            yield f"{folder}/{with_suffix(image.name, suffix)}", content(image)


def with_suffix(name: str, suffix: str) -> str:
    """The path of the label file of an image."""
    path = PurePosixPath(name)
    return (path.parent / f"{path.stem}{suffix}").as_posix()


def xml_text(value: str) -> str:
    r"""Text between tags; characters that XML 1.0 forbids become ``\u001b`` and the like."""
    from xml.sax.saxutils import escape  # imports what opens addresses

    return escape(_allowed(value))


def _allowed(value: str) -> str:
    return _NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", value)


def attributes(**values: Any) -> str:  # noqa: ANN401
    """`` key="value"`` for each value, as XML has them; see ``xml_text``."""
    from xml.sax.saxutils import quoteattr

    return "".join(f" {key}={quoteattr(_allowed(str(value)))}" for key, value in values.items())
