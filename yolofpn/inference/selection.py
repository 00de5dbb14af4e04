"""Combines the stored thresholds with those of the user and the selected classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yolofpn.addresses import is_url
from yolofpn.data.class_names import normalise_name
from yolofpn.errors import UserError
from yolofpn.reading import exists
from yolofpn.structures import Limits


def choose_limits(
    known: Limits,
    names: Sequence[str],
    *,
    score_thresh: float | None = None,
    nms_thresh: float | None = None,
    detections_per_img: int | None = None,
    classes: Sequence[str | int] | None = None,
) -> Limits:
    """``known``, with what is given in its place.

    Args:
        known: of the weights.
        names: class names by label.
        score_thresh: lowest score, one for all classes, in [0, 1].
        nms_thresh: IoU above which the weaker box of a class goes, in [0, 1].
        detections_per_img: most detections of one image, from 1.
        classes: names in any spelling, or labels, of the only classes wanted; or one name.

    Raises:
        UserError: there is no such class.
        ValueError: a value is out of its range.
    """
    for name, value in (("score_thresh", score_thresh), ("nms_thresh", nms_thresh)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")
    if detections_per_img is not None and detections_per_img < 1:
        raise ValueError(f"detections_per_img must be at least 1, got {detections_per_img}")
    limits = Limits(
        known.score_thresh if score_thresh is None else score_thresh,
        known.nms_thresh if nms_thresh is None else nms_thresh,
        known.detections_per_img if detections_per_img is None else detections_per_img,
    )
    return limits if classes is None else only_classes(limits, classes, names)


def only_classes(limits: Limits, classes: Sequence[str | int], names: Sequence[str]) -> Limits:
    """``limits`` that nothing but ``classes`` can pass.

    A threshold of 1, which no score exceeds, leaves the other classes out before NMS and before the best are counted.

    Raises:
        UserError: there is no such class.
    """
    items = [classes] if isinstance(classes, str) else classes  # of "dog" the letters are never meant
    wanted = {label for item in items for label in _labels_of(item, names)}
    given = limits.score_thresh
    thresholds = given if isinstance(given, tuple) else (given,) * len(names)
    chosen = tuple(thresh if label in wanted else 1.0 for label, thresh in enumerate(thresholds))
    return replace(limits, score_thresh=chosen)


def split_sources(classes: Sequence[str | int], names: Sequence[str]) -> tuple[list[str | int], list[str]]:
    """Split off the values at the end of ``--classes`` that are no class but an existing path or a URL: the sources.

    ``--classes cat dog images/`` takes all words that follow it, so the path that was meant as the source too.

    Returns:
        The classes, and the sources, which are empty where the classes would be.
    """
    count = len(classes)
    while count > 1 and not _is_class(classes[count - 1], names) and _names_source(str(classes[count - 1])):
        count -= 1
    return list(classes[:count]), [str(path) for path in classes[count:]]


def _is_class(item: str | int, names: Sequence[str]) -> bool:
    try:
        return bool(_labels_of(item, names))
    except UserError:
        return False


def _names_source(text: str) -> bool:
    return is_url(text) or exists(Path(text))


def _labels_of(item: str | int, names: Sequence[str]) -> list[int]:
    """The labels that a name has, usually one; else the label that is written as a number."""
    text = str(item)
    named = [label for label, name in enumerate(names) if normalise_name(name) == normalise_name(text)]
    if named and isinstance(item, str):
        return named
    if text.isascii() and text.isdecimal() and int(text) < len(names):
        return [int(text)]
    if _names_source(text):
        raise UserError(f"{text}: is a source, not a class: name sources before --classes, or with --source")
    by_folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(text.casefold(), by_folded, n=1)
    first = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    hint = f"did you mean {by_folded[near[0]]!r}?" if near else f"choose from {first}"
    raise UserError(f"no class {text!r} among the {len(names)} classes of the weights: {hint}")
