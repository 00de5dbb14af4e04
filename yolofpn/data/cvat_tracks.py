"""Tracks of CVAT's XML ("CVAT for video"): the shapes of each frame, between keyframes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from xml.etree import ElementTree

from yolofpn.data.labelled_images import ImageLabels, ObjectLabel
from yolofpn.errors import UserError

MAX_FRAMES = 200_000  # of a video: almost two hours

Placed = list[tuple[int, ObjectLabel | None]]  # frame and shape of each entry in its order; None: outside from then on


def frames_of(
    root: ElementTree.Element, read: Callable[[str, ElementTree.Element], ObjectLabel | None]
) -> list[tuple[str, ImageLabels]]:
    """The frames of a video, called as CVAT calls their images (``frame_000012``), with their shapes.

    A shape stands from its entry to the next one of its track and moves evenly in between, until an entry says that it
    is outside; the last one stands to the end of the video.

    Args:
        root: of the XML.
        read: an object from a track's label and a shape; None if it is none.

    Raises:
        UserError: if there are more than ``MAX_FRAMES``.
    """
    tracks = [list(_entries(track, read)) for track in root.iterfind("track")]
    numbers = [frame for track in tracks for frame, _ in track]
    first, last = _range(root, numbers)
    if last - first >= MAX_FRAMES:
        raise UserError(f"frames {first} to {last}: at most {MAX_FRAMES:,} are possible: split the video")
    size = root.find("meta//original_size")
    height, width = (_number(size, side) for side in ("height", "width"))
    frames: list[list[ObjectLabel]] = [[] for _ in range(first, last + 1)]
    for track in tracks:
        for frame, shape in _placed(track, last):
            if first <= frame <= last:
                frames[frame - first].append(shape)
    return [(f"frame_{first + n:06d}", ImageLabels(shapes, height, width)) for n, shapes in enumerate(frames)]


def _entries(
    track: ElementTree.Element, read: Callable[[str, ElementTree.Element], ObjectLabel | None]
) -> Iterator[tuple[int, ObjectLabel | None]]:
    found: dict[int, ObjectLabel | None] = {}
    for element in track:
        frame = _number(element, "frame")
        shape = read(track.get("label", ""), element)
        if frame is not None and shape is not None:
            found[frame] = None if element.get("outside") == "1" else shape
    yield from sorted(found.items(), key=lambda entry: entry[0])


def _placed(track: Placed, last: int) -> Iterator[tuple[int, ObjectLabel]]:
    """The shape of a track in each frame in which it is."""
    for place, (frame, shape) in enumerate(track):
        if shape is None:
            continue
        following = track[place + 1] if place + 1 < len(track) else (last + 1, None)
        for now in range(frame, min(following[0], last + 1)):
            yield now, _between(shape, following[1], (now - frame) / (following[0] - frame))


def _between(shape: ObjectLabel, following: ObjectLabel | None, share: float) -> ObjectLabel:
    if following is None or share == 0:
        return shape
    x1, y1, x2, y2 = (low + (high - low) * share for low, high in zip(shape.box, following.box, strict=True))
    turn = (following.rotation - shape.rotation + 180) % 360 - 180  # the short way round
    return replace(shape, box=(x1, y1, x2, y2), rotation=shape.rotation + turn * share)


def _range(root: ElementTree.Element, frames: list[int]) -> tuple[int, int]:
    """The first and the last frame: of the task, as far as it says so, else those with an entry."""
    task = root.find("meta/task")
    task = root.find("meta/job") if task is None else task
    starts, stops = (
        [] if task is None or (value := _number(task, key)) is None else [value]
        for key in ("start_frame", "stop_frame")
    )
    first = min([*starts, *frames], default=0)
    last = max([*stops, *frames], default=-1)
    return first, last


def _number(element: ElementTree.Element | None, key: str) -> int | None:
    text = "" if element is None else (element.get(key) or element.findtext(key) or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
