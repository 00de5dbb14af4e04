"""The YAML files of ``cfg/data``: where a data set lies and how it is written."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from yolofpn.config import StrictModel, VocCorners
from yolofpn.data import formats


class PartConfig(StrictModel):
    """A split, or a part of one; paths are relative to ``root``.

    Attributes:
        images: a folder of images (with subfolders), or a text file that lists images.
        annotations: the file with the labels of all images (coco, cvat, ...), or the folder of the label files of each
            (voc, yolo, labelme, kitti): by default ``labels`` for ``images``, else beside the images.
        list: a text file with the names of the images that belong to the split; by default all do.
    """

    images: str
    annotations: str | None = None
    list: str | None = None


class DataConfig(StrictModel):
    """One data set.

    Attributes:
        format: how its labels are written, one of ``yolofpn.data.formats.FORMATS``.
        root: the folder that the other paths are relative to; itself relative to the YAML file.
        splits: ``train``, ``val`` and any others, each of one part or several.
        names: the classes by label; by default those of the annotations.
        url: where the data set can be had, for the message that says that it is missing.
        voc_corners: who wrote VOC's XML, which decides what its corners mean; 'auto' looks.
    """

    format: str
    root: str = "."
    splits: dict[str, PartConfig | tuple[PartConfig, ...]] = Field(min_length=1)
    names: tuple[str, ...] | None = None
    url: str | None = None
    voc_corners: VocCorners = "auto"

    @field_validator("format", mode="before")
    @classmethod
    def _format_is_known(cls, key: object) -> object:
        *keys, last = [repr(known.key) for known in formats.FORMATS]
        if repr(key) not in (*keys, last):
            raise PydanticCustomError("label_format", f"Input should be {', '.join(keys)} or {last}")
        return key

    @field_validator("names", mode="before")
    @classmethod
    def _names_by_label(cls, names: object) -> object:
        if isinstance(names, dict):
            if set(names) != set(range(len(names))):
                raise ValueError("classes must be numbered 0, 1, 2, ... without a gap")
            return tuple(names[label] for label in range(len(names)))
        return names

    @model_validator(mode="after")
    def _annotations_are_named(self) -> DataConfig:
        label_format = formats.format_named(self.format)
        if label_format.one_file and ".tar" not in label_format.suffixes:  # shards hold images and labels
            missing = [split for split in self.splits if any(p.annotations is None for p in self.parts(split))]
            if missing:
                raise ValueError(f"splits.{missing[0]}: format {self.format} needs 'annotations', its file")
        return self

    def parts(self, split: str) -> tuple[PartConfig, ...]:
        """The parts of a split."""
        value = self.splits[split]
        return (value,) if isinstance(value, PartConfig) else value
