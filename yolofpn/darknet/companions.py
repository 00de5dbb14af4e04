"""Finds the cfg and the class names of a Darknet ``.weights`` file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from yolofpn.config import DarknetHeader, ResizeMode
from yolofpn.darknet.cfg import DarknetCfg
from yolofpn.darknet.download import NAMED_WEIGHTS, find_problem
from yolofpn.data.class_names import COCO_NAMES, read_names
from yolofpn.errors import UserError

_SHIPPED = Path(__file__).parent / "cfgs"
_NEW_HEADER_SIZE = 20  # of the published files, in bytes
# The published weights were trained with this cfg's masks; with those of the published cfg AP on COCO128 is .154, not
# .215.
_TINY, _TINY_COCO_CFG = "yolov3-tiny", "yolov3-tiny-coco.cfg"
_TRAINING_SUFFIX = re.compile(r"_(best|last|final|ema|\d+)$")


def find_cfg(weights: Path, numbers: int, given: str | Path | None = None) -> tuple[Path, str]:
    """Return the cfg file of ``weights``, and a message that says how it was found.

    It is the one that is given, else the one with the same stem beside the weights, else, for the files that Darknet
    writes while it trains (``x_best.weights``, ``x_4000.weights``), the one without that ending, beside them or one
    folder up, else our own cfg of YOLOv3, tiny or SPP if it needs just as many ``numbers`` as the file holds. The
    published yolov3-tiny.weights, known by its sha256, gets the masks that it was trained with.

    Raises:
        UserError: if there is none.
    """
    if given is not None:
        return Path(given), f"cfg: {given} (as given)"
    for path in _cfg_candidates(weights):
        if path.is_file():
            return path, f"cfg: {path} (found by its name)"
    published_tiny = NAMED_WEIGHTS[_TINY]
    as_large = published_tiny.size == _NEW_HEADER_SIZE + 4 * numbers
    if as_large and weights.is_file() and find_problem(published_tiny, weights) is None:
        path = _SHIPPED / _TINY_COCO_CFG
        return (
            path,
            f"cfg: our own of {_TINY}, with masks 1,2,3 in its second [yolo], as it was trained",
        )
    for name, published in NAMED_WEIGHTS.items():
        path = _SHIPPED / f"{name}.cfg"
        if published.size == _NEW_HEADER_SIZE + 4 * numbers and path.is_file():
            return (
                path,
                f"cfg: our own of {name}, which needs as many numbers as the file holds (none beside the weights)",
            )
    looked = ", ".join(str(path) for path in _cfg_candidates(weights))
    raise UserError(f"{weights}: no cfg found ({looked}): give it with --darknet-cfg FILE")


def find_names(
    weights: Path, cfg: Path, num_classes: int, given: str | Path | None = None
) -> tuple[tuple[str, ...], str]:
    """Return the class names of ``weights``, and a message that says where they are from.

    They are those of the file that is given, else of STEM.names, obj.names or classes.txt beside the weights or the
    cfg, else of the only other .names file there with so many names, else COCO's if there are 80 classes, else the
    labels' numbers.

    Raises:
        UserError: if a names file cannot be read or holds another number of names.
    """
    path = Path(given) if given is not None else next((p for p in _names_candidates(weights, cfg) if p.is_file()), None)
    if path is None and (fitting := _names_of_count(weights, cfg, num_classes)) is not None:
        return read_names(fitting), f"names: {fitting} (the only .names file here with {num_classes} names)"
    if path is None:
        if num_classes == len(COCO_NAMES):
            return COCO_NAMES, "names: COCO's 80 (no names file that fits beside the weights)"
        names = tuple(map(str, range(num_classes)))
        return names, "names: none found, classes are shown as numbers (--names FILE gives them)"
    names = read_names(path)
    if len(names) != num_classes:
        remedy = "give the matching file" if given is not None else "give the matching file with --names"
        raise UserError(f"{path}: holds {len(names)} names, {weights} has {num_classes} classes: {remedy}")
    return names, f"names: {path} ({'as given' if given is not None else 'found'})"


def choose_resize(cfg: DarknetCfg, header: DarknetHeader) -> ResizeMode:
    """Return the resize mode that the weights were trained with.

    ``letter_box`` in [net] says it; else header revision 5, which AlexeyAB's Darknet writes, means that it stretched,
    and any other that it padded.
    """
    if cfg.net.letter_box is not None:
        return "letterbox" if cfg.net.letter_box else "stretch"
    return "stretch" if header.revision == 5 else "letterbox"


def resize_note(cfg: DarknetCfg, header: DarknetHeader) -> str:
    """Return a message with the choice of ``choose_resize``, its reason, and how to override it."""
    mode, version = choose_resize(cfg, header), f"{header.major}.{header.minor}.{header.revision}"
    if cfg.net.letter_box is not None:
        return f"resize: {mode}, as letter_box= in [net] says (--resize changes it)"
    if mode == "stretch":
        return f"resize: stretch, as AlexeyAB's Darknet does, which wrote header {version} (or --resize letterbox)"
    return f"resize: letterbox, as pjreddie's Darknet does (header {version}); trained by stretching: --resize stretch"


def _cfg_candidates(weights: Path) -> Iterable[Path]:
    yield weights.with_suffix(".cfg")
    stem = _TRAINING_SUFFIX.sub("", weights.stem)
    if stem != weights.stem:
        yield weights.parent / f"{stem}.cfg"
        yield weights.absolute().parent.parent / f"{stem}.cfg"


def _names_candidates(weights: Path, cfg: Path) -> Iterable[Path]:
    stems = (weights.stem, _TRAINING_SUFFIX.sub("", weights.stem), cfg.stem)
    for file_name in dict.fromkeys([*(f"{stem}.names" for stem in stems), "obj.names", "classes.txt"]):
        for folder in dict.fromkeys((weights.parent, cfg.parent)):
            yield folder / file_name


def _names_of_count(weights: Path, cfg: Path, num_classes: int) -> Path | None:
    """The ``.names`` file beside the weights or the cfg with so many names; None if there are several, or none."""
    fitting = []
    for folder in dict.fromkeys((weights.parent, cfg.parent)):
        for path in sorted(folder.glob("*.names")):
            with suppress(UserError):  # a broken file that nobody has named
                if len(read_names(path)) == num_classes:
                    fitting.append(path)
    return fitting[0] if len(fitting) == 1 else None
