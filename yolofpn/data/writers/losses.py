"""What a converted data set holds, and what its format could not keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from yolofpn.data.writers.labelled import LabelWriter, WrittenSplit

_MARKS = {
    "coco": "iscrowd",
    "voc": "difficult",
    "cvat": "by the attribute 'difficult'",
    "labelme": "by the flag 'difficult'",
    "label-studio": "by the choice 'difficult'",
    "webdataset": "ignore",
}


def described(split: WrittenSplit) -> str:
    """A line that counts images, boxes and ignore regions."""
    objects = list(split.objects)
    ignored = sum(entry.ignore for entry in objects)
    regions = f", {ignored} ignore regions" if ignored else ""
    return f"{split.name}: {len(split.images)} images, {len(objects) - ignored} boxes{regions}"


def losses(writer: type[LabelWriter], splits: Iterable[WrittenSplit]) -> Iterator[str]:
    """A line for each kind of thing that the format cannot hold, and for how ignore regions are marked."""
    splits = list(splits)
    objects = [entry for split in splits for entry in split.objects]
    outlines = sum(entry.area is not None for entry in objects)
    ignored = sum(entry.ignore for entry in objects)
    unlabelled = sum(not image.labelled for split in splits for image in split.images)
    background = sum(image.labelled and not image.objects for split in splits for image in split.images)
    if outlines:
        areas = "their areas are kept" if "area" in writer.keeps else "nor their areas"
        yield f"lost: the outlines of {outlines} polygons or masks: only boxes are written, {areas}"
    if ignored and "ignore" not in writer.keeps:
        yield f"lost: {ignored} ignore regions (crowds, difficult objects): {writer.key} cannot mark them"
    if ignored and "ignore" in writer.keeps:
        yield f"{ignored} ignore regions (crowds, difficult objects) are marked {_MARKS[writer.key]}"
    if unlabelled and "unlabelled" not in writer.keeps:
        yield f"lost: that {unlabelled} images are unlabelled: {writer.key} lists them like background"
    if background and "background" not in writer.keeps:
        yield f"lost: that {background} images are labelled as background: {writer.key} lists them like unlabelled ones"
