"""Writes suspected label errors: a static HTML page with images, and lists for labelling tools."""

from __future__ import annotations

import csv
import html
import io
import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import InputError
from yolofpn.evaluation.mistakes import Mistake, Suggestion
from yolofpn.files import write_atomically
from yolofpn.structures import Image
from yolofpn.text import safe_part

SIDE = 640  # pixels of a shown image's longer side
_LABEL, _DETECTED, _OTHER = (40, 40, 230), (60, 180, 60), (200, 200, 200)  # BGR
_COLUMNS = (
    *("rank", "kind", "suspicion", "image", "file_name"),
    *("label", "box", "detected", "detected_box", "score", "iou"),
)
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1400px; padding: 0 1em; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)); gap: 1.5em; }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; padding: .6em; }
img { max-width: 100%; height: auto; } figcaption { overflow-wrap: anywhere; }
li { margin: .2em 0; } .label { color: #c62828; } .detected { color: #2e7d32; }
"""


def write_mistakes(
    folder: Path, dataset: DetectionDataset, suggestions: Sequence[Suggestion], title: str, count: int
) -> int:
    """Write ``index.html`` with the ``count`` most suspicious images, and all suggestions as JSON, CSV and file names.

    Args:
        folder: gets ``index.html``, ``images/``, ``mistakes.json``, ``mistakes.csv`` and ``images.txt``.
        dataset: whose labels they are about.
        suggestions: the most suspicious first.
        title: what the page says above.
        count: how many images are shown.

    Returns:
        The number of images shown.

    Raises:
        UserError: if a file cannot be written.
    """
    index_of = {image_id: index for index, image_id in enumerate(dataset.image_ids.tolist())}
    records = [_record(rank, each, dataset, index_of) for rank, each in enumerate(suggestions, start=1)]
    by_image: dict[int, list[int]] = {}
    for place, each in enumerate(suggestions):
        by_image.setdefault(index_of[each.image_id], []).append(place)
    write_atomically(folder / "mistakes.json", _encoded(json.dumps(records, indent=1, ensure_ascii=False)))
    write_atomically(folder / "mistakes.csv", _encoded(_csv(records)))
    names = (Path(dataset.paths[index]).name for index in by_image)
    write_atomically(folder / "images.txt", _encoded("".join(f"{name}\n" for name in names)))
    cards: list[str] = []
    for index, places in by_image.items():
        if len(cards) == count:
            break
        try:
            image = dataset.shown_image(index)
        except InputError:  # it was readable a moment ago
            continue
        name = f"{len(cards) + 1:04d}_{safe_part(Path(dataset.paths[index]).stem)}.jpg"
        shown = [suggestions[place] for place in places]
        drawn = draw_mistakes(image, shown, dataset.target(index, image.shape[:2]).boxes.numpy())
        write_atomically(folder / "images" / name, cv2.imencode(".jpg", drawn)[1].tobytes())
        lines = [(records[place], suggestions[place]) for place in places]
        cards.append(_card(f"images/{name}", dataset.paths[index], lines, dataset.names))
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n"
        f"<p>{len(suggestions)} suggestions in {len(by_image)} images; {len(cards)} images are shown, the most "
        'suspicious first. <span class="label">Red: the label.</span> <span class="detected">Green: the detection.'
        "</span> Gray: other labels.</p>\n<main>\n" + "\n".join(cards) + "\n</main></html>\n"
    )
    write_atomically(folder / "index.html", _encoded(page))
    return len(cards)


def draw_mistakes(image: Image, suggestions: Sequence[Suggestion], boxes: Any) -> Image:  # noqa: ANN401
    """A copy of ``image``, at most ``SIDE`` pixels a side, with all labels and the numbered suggestions.

    Args:
        image: [H, W, 3] uint8, BGR.
        suggestions: of this image.
        boxes: [M, 4] all labels, xyxy in pixels of the image.
    """
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.ascontiguousarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    )
    for box in boxes.tolist():
        _rectangle(canvas, box, scale, _OTHER, 1)
    for number, each in reversed(list(enumerate(suggestions, start=1))):
        for own, colour in ((each.box, _LABEL), (each.detected_box, _DETECTED)):
            if own is not None:
                _rectangle(canvas, own, scale, colour, 2)
        place = each.box or each.detected_box or (0, 0)
        corner = round(place[0] * scale) + 4, min(max(round(place[1] * scale), 0) + 16, size[1] - 4)
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(canvas, str(number), corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return np.asarray(canvas, dtype=np.uint8)


def _rectangle(
    canvas: Any,  # noqa: ANN401
    box: Sequence[float],
    scale: float,
    colour: tuple[int, int, int],
    thickness: int,
) -> None:
    x1, y1, x2, y2 = (round(side * scale) for side in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness)


def described(each: Suggestion, names: Sequence[str]) -> str:
    """What is suspected, in a few words."""
    label = "" if each.label is None else names[each.label]
    found = "" if each.detected_label is None else f"{names[each.detected_label]} {each.score:.2f}"
    match each.kind:
        case Mistake.MISSED:
            return f"{found} has no label"
        case Mistake.RENAMED:
            return f"labelled {label}, detected {found}"
        case Mistake.MOVED:
            return f"{label} is badly placed: detected {found}, IoU {each.iou:.2f}"
        case Mistake.INVENTED:
            return f"{label} is not detected"


def _card(image: str, path: str, lines: Sequence[tuple[dict[str, Any], Suggestion]], names: Sequence[str]) -> str:
    items = "".join(
        f"<li>{html.escape(described(each, names))} <small>({each.kind}, rank {record['rank']}, "
        f"{each.suspicion:.2f})</small></li>"
        for record, each in lines
    )
    link = html.escape(urllib.parse.quote(image))
    return (
        f'<figure><a href="{link}"><img src="{link}" loading="lazy" alt=""></a>'
        f"<figcaption>{html.escape(path)}<ol>{items}</ol></figcaption></figure>"
    )


def _record(rank: int, each: Suggestion, dataset: DetectionDataset, index_of: dict[int, int]) -> dict[str, Any]:
    def name(label: int | None) -> str | None:
        return None if label is None else dataset.names[label]

    def rounded(box: Sequence[float] | None) -> list[float] | None:
        return None if box is None else [round(side, 2) for side in box]

    return {
        "rank": rank,
        "kind": str(each.kind),
        "suspicion": round(each.suspicion, 4),
        "image": dataset.paths[index_of[each.image_id]],
        "file_name": Path(dataset.paths[index_of[each.image_id]]).name,
        "label": name(each.label),
        "box": rounded(each.box),
        "detected": name(each.detected_label),
        "detected_box": rounded(each.detected_box),
        "score": round(each.score, 4),
        "iou": round(each.iou, 4),
    }


def _csv(records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        cells = (record[column] for column in _COLUMNS)
        writer.writerow([" ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in cells])
    return text.getvalue()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names that are not UTF-8
