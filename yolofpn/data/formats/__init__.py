"""The label formats, one file each.

A new one is a class as ``yolofpn.data.label_format.LabelFormat`` describes it, and a line in ``FORMATS``;
docs/extending.md has an example.
"""

from __future__ import annotations

from yolofpn.data.formats.coco_json import CocoJson
from yolofpn.data.formats.cvat_xml import CvatXml
from yolofpn.data.formats.labelme_json import LabelmeJson
from yolofpn.data.formats.voc_xml import VocXml
from yolofpn.data.formats.yolo_txt import YoloTxt
from yolofpn.data.label_format import LabelFormat

FORMATS: tuple[type[LabelFormat], ...] = (
    CocoJson,
    CvatXml,
    VocXml,
    YoloTxt,
    LabelmeJson,
)
"""Where a folder may be read in several ways, the first of them counts."""


def format_named(key: str) -> type[LabelFormat]:
    """The label format that a data YAML calls ``key``.

    Raises:
        KeyError: there is none.
    """
    return {known.key: known for known in FORMATS}[key]
