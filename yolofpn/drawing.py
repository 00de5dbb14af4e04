"""Boxes and their names on images, readable from 64 to 8000 pixels."""

from __future__ import annotations

import colorsys
import contextlib
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from yolofpn.errors import UserError
from yolofpn.opencv import cv2

Image: TypeAlias = NDArray[np.uint8]  # [H, W, 3], BGR
Colour: TypeAlias = tuple[int, int, int]  # blue, green, red
LabelStyle: TypeAlias = Literal["score", "name", "none"]

GOLDEN_RATIO = 0.6180339887498949
SMALLEST_TEXT = 7  # pixels; below this letters cannot be told apart
FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FONT_SUFFIXES = (".ttf", ".otf", ".ttc")
FONT_FOLDERS = (  # of Linux, macOS and Windows
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
    "~/AppData/Local/Microsoft/Windows/Fonts",
)
NO_CHARACTER = "\U0010ffff"  # Unicode will never give this code point to any


def draw_boxes(image: Image, boxes: NDArray[Any], labels: Sequence[int], texts: Sequence[str]) -> Image:
    """A copy of ``image`` with boxes drawn on it, the first ones on top.

    Line width and text size follow the size of the image; a text stands above its box, inside or below it where
    that place is taken or outside the image.

    Args:
        image: [H, W, 3] uint8, BGR.
        boxes: [D, 4] xyxy, pixels.
        labels: [D], which choose the colours.
        texts: [D], what stands beside each box; nothing where it is empty.
    """
    canvas = np.array(image, order="C")
    height, width = canvas.shape[:2]
    line_width, text_height = _sizes(height, width)
    corners = _line_corners(np.asarray(boxes, dtype=np.float64), (height, width), line_width)
    for (left, top, right, bottom), label in reversed(list(zip(corners, labels, strict=True))):
        cv2.rectangle(canvas, (left, top), (right, bottom), class_colour(label), line_width)
    tags: list[tuple[NDArray[np.uint8], int, int]] = []
    taken: list[tuple[int, int, int, int]] = []
    for corner, label, text in zip(corners, labels, texts, strict=True):
        if text:
            tag = _fitting_tag(text, text_height, class_colour(label), width)
            left, top = _place_tag(corner, tag.shape[:2], (height, width), line_width, taken)
            taken.append((left, top, left + tag.shape[1], top + tag.shape[0]))
            tags.append((tag, left, top))
    for tag, left, top in reversed(tags):
        part = canvas[top : top + tag.shape[0], left : left + tag.shape[1]]
        part[:] = tag[: part.shape[0], : part.shape[1]]
    return canvas


def box_texts(names: Sequence[str], scores: Sequence[float], track_ids: Sequence[int], style: LabelStyle) -> list[str]:
    """What stands beside each box: '#7 person 0.93', without the number where the object has no track (-1)."""
    if style == "none":
        return [""] * len(names)
    numbers = [f"#{track} " if track >= 0 else "" for track in track_ids]
    ends = [f" {score:.2f}" if style == "score" else "" for score in scores]
    return [f"{number}{name}{end}" for number, name, end in zip(numbers, names, ends, strict=True)]


def line_width_of(image: Image) -> int:
    """The width in pixels of lines drawn on ``image``."""
    return _sizes(*image.shape[:2])[0]


def draw_tag(image: Image, text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Write ``text`` on a rectangle of ``colour`` into ``image``, moved inside where it would reach out of it.

    Args:
        image: [H, W, 3] uint8, BGR; is changed.
        text: one line.
        corner: x, y of the left end of its lower edge.
        colour: of the rectangle.
    """
    height, width = image.shape[:2]
    tag = _fitting_tag(text, _sizes(height, width)[1], colour, width)
    left = min(max(corner[0], 0), max(width - tag.shape[1], 0))
    top = min(max(corner[1] - tag.shape[0], 0), max(height - tag.shape[0], 0))
    part = image[top : top + tag.shape[0], left : left + tag.shape[1]]
    part[:] = tag[: part.shape[0], : part.shape[1]]


@lru_cache(maxsize=4096)
def class_colour(label: int) -> Colour:
    """The colour (blue, green, red) of a class: always the same, and far from those of the labels near it.

    The hue advances by the golden ratio, which never comes close to a recent one; strong, pale and dark tones
    alternate, so that classes of nearly equal hue differ as well.
    """
    saturation, value = ((1.0, 1.0), (0.5, 1.0), (0.9, 0.7))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb((0.1 + label * GOLDEN_RATIO) % 1.0, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def show_image(image: Image) -> None:
    """Show [H, W, 3] uint8, BGR: inline in a notebook, else in the system's image viewer.

    Raises:
        UserError: there is no notebook, and no display or no viewer.
    """
    from PIL import ImageShow  # it imports IPython wherever that is installed

    displayed = PillowImage.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        sys.modules["IPython.display"].display(displayed)
        return
    needs_display = sys.platform not in ("win32", "darwin")
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if (needs_display and not has_display) or not ImageShow.show(displayed):
        raise UserError(
            "the image cannot be shown: this machine has no display or no image viewer\n"
            "save it instead: cv2.imwrite('image.png', detections.draw(image))"
        )


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever contrasts more with ``background`` (WCAG 2: relative luminance above 0.179)."""
    blue, green, red = (_linear(channel / 255) for channel in background)
    luminance = 0.0722 * blue + 0.7152 * green + 0.2126 * red
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _linear(channel: float) -> float:
    """An sRGB value in 0..1 -> linear light (IEC 61966-2-1)."""
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _sizes(height: int, width: int) -> tuple[int, int]:
    """Line width and text height in pixels for an image."""
    side = (height * width) ** 0.5
    return max(1, round(side * 0.003)), max(8, round(side * 0.022))


def _line_corners(
    boxes: NDArray[np.float64], size: tuple[int, int], line_width: int
) -> list[tuple[int, int, int, int]]:
    """The pixels that the corners of the boxes' lines run through, so that the whole lines lie within the image."""
    height, width = size
    inset = line_width // 2
    last = np.array((max(width - 1 - inset, 0), max(height - 1 - inset, 0)))
    first = np.minimum(inset, last)
    pixels = np.rint(boxes).astype(np.int64)
    left_top = np.clip(pixels[:, :2], first, last)
    right_bottom = np.maximum(np.clip(pixels[:, 2:] - 1, first, last), left_top)
    return [tuple(corner) for corner in np.hstack((left_top, right_bottom)).tolist()]


def _place_tag(
    corner: tuple[int, int, int, int],
    tag_size: tuple[int, ...],
    size: tuple[int, int],
    line_width: int,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Left and top of a tag: the first of four places in the image that covers no other tag, else the first.

    ``taken`` is looked through in Python, up to the first overlap, which is faster than calls of NumPy.
    """
    left, top, right, bottom = corner
    tag_height, tag_width = tag_size
    outset = line_width // 2
    above, inside, below = top - outset - tag_height, top - outset, bottom + outset + 1
    wanted = ((left - outset, above), (left - outset, inside), (right + outset + 1 - tag_width, above), (left, below))
    last_x, last_y = max(size[1] - tag_width, 0), max(size[0] - tag_height, 0)
    places = [(min(max(x, 0), last_x), y) for x, y in wanted if 0 <= y <= last_y]
    for x, y in places:
        x_end, y_end = x + tag_width, y + tag_height
        if not any(x1 < x_end and x2 > x and y1 < y_end and y2 > y for x1, y1, x2, y2 in taken):
            return x, y
    return places[0] if places else (min(max(left, 0), last_x), min(max(inside, 0), last_y))


def _fitting_tag(text: str, text_height: int, colour: Colour, width: int) -> NDArray[np.uint8]:
    """The text on its colour, smaller where it would be wider than the image."""
    tag = _tag(text, text_height, colour)
    if tag.shape[1] > width:
        tag = _tag(text, max(SMALLEST_TEXT, text_height * width // tag.shape[1]), colour)
    return tag


@lru_cache(maxsize=512)
def _tag(text: str, text_height: int, colour: Colour) -> NDArray[np.uint8]:
    """``text`` in black or white on ``colour``, as a read-only BGR image; kept, for videos repeat their texts."""
    text = "".join(character if character.isprintable() else " " for character in text)
    font = _font(_font_path(text), text_height)
    _, top, _, bottom = font.getbbox("Áj", anchor="ls")  # the same height for every text
    left, _, right, _ = font.getbbox(text, anchor="ls")
    margin = max(1, text_height // 5)
    size = (round(right - left) + 2 * margin, round(bottom - top) + margin)
    mask = PillowImage.new("L", size)
    ImageDraw.Draw(mask).text((margin - left, margin // 2 - top), text, fill=255, font=font, anchor="ls")
    ink = np.asarray(mask, dtype=np.float32)[:, :, None] / 255
    paper, letters = np.asarray(colour, dtype=np.float32), np.asarray(text_colour(colour), dtype=np.float32)
    tag = np.rint(paper * (1 - ink) + letters * ink).astype(np.uint8)
    tag.setflags(write=False)
    return tag


@lru_cache(maxsize=64)
def _font(path: Path, text_height: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), text_height)


def _font_path(text: str) -> Path:
    """DejaVu Sans, which ships with the package, unless only a font of the system has every character."""
    missing = frozenset(character for character in text if not character.isascii() and not _has(FONT, character))
    return _font_with(missing) if missing else FONT


@lru_cache(maxsize=256)
def _font_with(characters: frozenset[str]) -> Path:
    def fancy(path: Path) -> bool:
        return any(word in path.name.lower() for word in ("bold", "italic", "oblique", "mono", "serif"))

    for path in sorted(_system_fonts(), key=lambda path: (fancy(path), path)):
        if all(_has(path, character) for character in characters):
            return path
    return FONT


def _system_fonts() -> list[Path]:
    """Font files where systems keep them."""
    folders = [Path(folder) for folder in FONT_FOLDERS]
    with contextlib.suppress(RuntimeError):  # a user without a home
        folders = [folder.expanduser() for folder in folders]
    return [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in FONT_SUFFIXES]


@lru_cache(maxsize=4096)
def _has(path: Path, character: str) -> bool:
    """Whether a font has a character: in place of those that it lacks it draws what it draws for no character."""
    try:
        font = _font(path, 24)
    except OSError:  # damaged, or of a kind that FreeType cannot read
        return False
    return character.isspace() or _drawn(font, character) != _drawn(font, NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[float, ...], bytes]:
    box = font.getbbox(character, anchor="ls")
    mask = PillowImage.new("L", (48, 48))
    ImageDraw.Draw(mask).text((8, 36), character, fill=255, font=font, anchor="ls")
    return box, mask.tobytes()
