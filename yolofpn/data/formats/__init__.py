"""The label formats, one file each.

A new one is a class as ``yolofpn.data.label_format.LabelFormat`` describes it, and a line in ``FORMATS``;
docs/extending.md has an example.
"""

from __future__ import annotations

from yolofpn.data.formats.coco_json import CocoJson
from yolofpn.data.formats.createml_json import CreateMLJson
from yolofpn.data.formats.cvat_xml import CvatXml
from yolofpn.data.formats.datumaro_json import DatumaroJson
from yolofpn.data.formats.kitti_txt import KittiTxt
from yolofpn.data.formats.label_studio_json import LabelStudioJson
from yolofpn.data.formats.labelme_json import LabelmeJson
from yolofpn.data.formats.open_images_csv import OpenImagesCsv
from yolofpn.data.formats.supervisely_json import SuperviselyJson
from yolofpn.data.formats.via import Via
from yolofpn.data.formats.voc_xml import VocXml
from yolofpn.data.formats.webdataset_tar import WebDatasetTar
from yolofpn.data.formats.yolo_txt import YoloTxt
from yolofpn.data.label_format import LabelFormat

FORMATS: tuple[type[LabelFormat], ...] = (
    CocoJson,
    CvatXml,
    SuperviselyJson,
    VocXml,
    KittiTxt,  # before YOLO's, which has text files called as images, too
    YoloTxt,
    LabelmeJson,
    LabelStudioJson,
    DatumaroJson,
    Via,
    CreateMLJson,
    OpenImagesCsv,
    WebDatasetTar,
)
"""Where a folder may be read in several ways, the first of them counts."""


def format_named(key: str) -> type[LabelFormat]:
    """The label format that a data YAML calls ``key``.

    Raises:
        KeyError: if there is none.
    """
    return {known.key: known for known in FORMATS}[key]
