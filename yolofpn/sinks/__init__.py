"""Sinks write the detections of each image, one file each.

A new one is a class as ``yolofpn.sinks.sink.FormatSink`` describes it, and a line in ``SINKS``; docs/extending.md has
an example. These files import nothing heavy at their top, because ``detect.py --help`` lists them.
"""

from __future__ import annotations

from yolofpn.sinks.coco_results import CocoSink
from yolofpn.sinks.coco_video import CocoVideoSink
from yolofpn.sinks.crops import CropSink
from yolofpn.sinks.csv_table import CsvSink
from yolofpn.sinks.cvat import CvatSink
from yolofpn.sinks.jsonl import JsonLinesSink
from yolofpn.sinks.label_studio import LabelStudioSink
from yolofpn.sinks.labelled import DatasetSink
from yolofpn.sinks.labelme import LabelmeSink
from yolofpn.sinks.mot import MotSink
from yolofpn.sinks.sink import FormatSink
from yolofpn.sinks.yolo_results import YoloSink

SINKS: tuple[type[FormatSink], ...] = (
    JsonLinesSink,
    CocoSink,
    CsvSink,
    YoloSink,
    DatasetSink,
    CvatSink,
    LabelStudioSink,
    LabelmeSink,
    CropSink,
    MotSink,
    CocoVideoSink,
)
"""In the order in which they write; the first one always does."""
