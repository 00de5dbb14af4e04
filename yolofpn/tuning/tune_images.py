"""The images that ``tune`` compares on: a data set's with their objects, or any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from yolofpn.bands import in_tensor_order
from yolofpn.config import Metadata
from yolofpn.data.class_names import match_classes
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.images import read_image
from yolofpn.data.layouts import open_data
from yolofpn.data.samples import to_tensor
from yolofpn.errors import InputError, UserError
from yolofpn.ops.resize import resize_image
from yolofpn.shipped import sample_images
from yolofpn.sources.resolve import resolve_sources
from yolofpn.structures import Image, Target

MOST_CALIBRATED = 128


@dataclass(frozen=True)
class TuneImages:
    """Images for tuning, with their ground truth if available.

    Attributes:
        images: BGR, uint8 [H, W, 3] each; of weights for bands float32 [H, W, N] (see ``yolofpn.bands``).
        metadata: of the weights.
        notes: lines to print.
        names: of the data set's classes.
        targets: the objects of each image; None: there are no labels.
        mapping: the data set's label of each of the weights'.
        to_calibrate: what int8 takes its ranges from; none: there are too few images for that.
    """

    images: Sequence[Image]
    metadata: Metadata
    notes: Sequence[str]
    names: tuple[str, ...] = ()
    targets: Sequence[Target] | None = None
    mapping: Sequence[int | None] | None = None
    to_calibrate: Sequence[Image] = field(default=())

    @property
    def can_calibrate(self) -> bool:
        """Whether there are enough images to calibrate int8."""
        return bool(self.to_calibrate) and self.metadata.input.resize != "shortest-edge"

    def calibration(self, size: tuple[int, int]) -> list[Tensor]:
        """uint8 [1, 3, H, W], or float32 [1, N, H, W], each."""
        return [self.as_network_sees(image, size) for image in self.to_calibrate]

    def as_network_sees(self, image: Image, size: tuple[int, int]) -> Tensor:
        """RGB, uint8 [1, 3, H, W], or bands, float32 [1, N, H, W]."""
        resize = self.metadata.input.resize
        resized, _ = resize_image(image, size, "letterbox" if resize == "shortest-edge" else resize)
        return to_tensor(in_tensor_order(resized))[None]


def open_images(data: str | None, metadata: Metadata, most: int) -> TuneImages:
    """The images of a data set, of a folder without labels, or those that ship with the project.

    Args:
        data: names them; None: the project's own.
        metadata: of the weights.
        most: so many at most, from all over the data set.

    Raises:
        UserError: if there are none that can be read, or the project's own are not for these weights.
    """
    if data is None:
        if not metadata.input.is_plain:
            raise UserError("the sample images have 8-bit colours, these weights take bands: give --data")
        images = [read_image(path) for path in sample_images()[:most]]
        return TuneImages(images, metadata, ["no --data: compared on the sample images, without int8"])
    try:
        source = open_data(data)
        dataset = source.load("val" if "val" in source.layout.splits else "all")
    except UserError as error:
        if not Path(data).is_dir():
            raise
        return _without_labels(data, metadata, most, str(error).splitlines()[0])
    match = match_classes(metadata.names, metadata.category_ids, dataset.names, dataset.category_ids)
    if match.how is None:
        raise UserError(f"{data}: has no class in common with the weights, so AP cannot be measured on it")
    chosen = _read(dataset, most, metadata)
    if not chosen:
        raise UserError(f"{data}: none of its images can be read")
    targets = [dataset.target(index, (image.shape[0], image.shape[1])) for index, image in chosen]
    images = [image for _, image in chosen]
    has_train = "train" in source.layout.splits
    calibrating = (
        [image for _, image in _read(source.load("train"), MOST_CALIBRATED, metadata)] if has_train else images
    )
    notes = [*source.notes, f"{len(images)} images with their objects: AP"]
    return TuneImages(images, metadata, notes, dataset.names, targets, match.mapping, calibrating)


def _without_labels(folder: str, metadata: Metadata, most: int, reason: str) -> TuneImages:
    images: list[Image] = []
    try:
        for source in resolve_sources([folder], depth=metadata.input.reading):
            for frame in source.frames():
                images.append(frame.image)
                break  # one of each image or video
            if len(images) == max(most, MOST_CALIBRATED):
                break
    except InputError as error:
        reason = str(error)
    if not images:
        raise UserError(f"{folder}: holds no images that can be read ({reason})")
    notes = [f"{folder}: no labels ({reason}): agreement with PyTorch on {len(images[:most])} images decides"]
    return TuneImages(images[:most], metadata, notes, to_calibrate=images[:MOST_CALIBRATED])


def _read(dataset: DetectionDataset, most: int, metadata: Metadata) -> list[tuple[int, Image]]:
    """Return up to ``most`` readable images, spread over the data set, with their indices."""
    dataset = replace(dataset, depth=metadata.input.reading)
    step = max(1, len(dataset) // most)
    found: list[tuple[int, Image]] = []
    for index in range(0, len(dataset), step):
        try:
            found.append((index, dataset.image(index)))
        except InputError:
            continue
        if len(found) == most:
            break
    return found
