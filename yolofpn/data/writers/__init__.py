"""The label formats that are written, one file each: a class as ``LabelWriter`` describes it, and a line here."""

from __future__ import annotations

from yolofpn.data.writers.coco_writer import CocoWriter
from yolofpn.data.writers.cvat_writer import CvatWriter
from yolofpn.data.writers.label_studio_writer import LabelStudioWriter
from yolofpn.data.writers.labelled import LabelWriter
from yolofpn.data.writers.labelme_writer import LabelmeWriter
from yolofpn.data.writers.voc_writer import VocWriter
from yolofpn.data.writers.webdataset_writer import WebDatasetWriter
from yolofpn.data.writers.yolo_writer import YoloWriter

WRITERS: tuple[type[LabelWriter], ...] = (
    CocoWriter,
    YoloWriter,
    VocWriter,
    CvatWriter,
    LabelmeWriter,
    LabelStudioWriter,
    WebDatasetWriter,
)
