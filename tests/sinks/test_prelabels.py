"""Detections for labelling tools, read by these tools' own readers where they are installed, and by this project."""

from __future__ import annotations

import json
import logging
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from tests.inference.fakes import NAMES, frame_of, image_source, noise, nothing_found, two_found, video
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.data.writers.voc_writer import voc_xml
from yolofpn.sinks.cvat import CvatSink
from yolofpn.sinks.label_studio import LabelStudioSink, prediction
from yolofpn.sinks.labelme import LabelmeSink
from yolofpn.sinks.prelabels import written_image
from yolofpn.sinks.sink import FormatSink
from yolofpn.structures import Detections

SINKS: dict[str, type[FormatSink]] = {"cvat": CvatSink, "label-studio": LabelStudioSink, "labelme": LabelmeSink}
PRECISE = [10.25, 20.5, 30.75, 50.13]


def found() -> Detections:
    """A box of fractions, one that leaves the 80 x 60 image, and one without an area."""
    boxes = np.array([PRECISE, [-5, -5, 90, 70], [7, 7, 7, 9]], np.float32)
    return Detections(boxes, np.array([0.9, 0.25, 0.2], np.float32), np.array([2, 0, 1]), NAMES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The output of a run over two images, one of them in a folder, and a video."""
    for key, kind in SINKS.items():
        sink = kind(tmp_path / "run")
        for seed, (name, detections) in enumerate({"a/dog.png": found(), "cat.png": nothing_found()}.items()):
            image = noise(seed=seed)
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image)
            sink.write(image_source(name, path), frame_of(image_source(name), image), detections)
        clip = video("clip.mp4")
        for index in (0, 5):
            sink.write(clip, frame_of(clip, noise(seed=9 + index), index=index), two_found()[:1])
        sink.close()
        assert (tmp_path / "run" / key).is_dir()
    return tmp_path / "run"


def rows(dataset: DetectionDataset, image: str) -> list[tuple[str, list[float]]]:
    index = [Path(path).name for path in dataset.paths].index(image)
    chosen = slice(int(dataset.offsets[index]), int(dataset.offsets[index + 1]))
    names = [dataset.names[label] for label in dataset.labels[chosen]]
    return [(name, [round(x, 3) for x in box]) for name, box in zip(names, dataset.boxes[chosen].tolist(), strict=True)]


def test_cvat_s_file_is_read_beside_the_images(run: Path, tmp_path: Path) -> None:
    (run / "cvat/annotations.xml").rename(tmp_path / "in/annotations.xml")
    dataset = open_data(tmp_path / "in").load("all")
    assert dataset.names == NAMES
    assert rows(dataset, "dog.png") == [("dog", PRECISE), ("person", [0, 0, 80, 60])]
    assert rows(dataset, "cat.png") == []
    frames = (run / "cvat/clip.xml").read_text()
    assert 'id="5" name="frame_000005"' in frames and frames.count("<box") == 2


@pytest.mark.parametrize("key", ["label-studio", "labelme"])
def test_folders_for_labelling_hold_every_image(key: str, run: Path) -> None:
    images = sorted(path.name for path in (run / key).rglob("*.[pj][np]g"))
    assert images == ["a__dog.png", "cat.png", "clip_000000.jpg", "clip_000005.jpg"]
    original = run.parent / "in/a/dog.png"
    copy = next((run / key).rglob("a__dog.png"))
    assert copy.read_bytes() == original.read_bytes()


def test_labelme_s_files(run: Path) -> None:
    dataset = open_data(run / "labelme").load("all")
    assert rows(dataset, "a__dog.png") == [("dog", PRECISE), ("person", [0, 0, 80, 60])]
    assert rows(dataset, "cat.png") == [] and dataset.labelled.all()
    assert rows(dataset, "clip_000005.jpg") == [("dog", [10, 20, 30, 50])]


def test_label_studio_s_tasks(run: Path) -> None:
    tasks = json.loads((run / "label-studio/tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks[:2]] == [
        f"/data/local-files/?d=images/{name}" for name in ("a__dog.png", "cat.png")
    ]
    (made,) = tasks[0]["predictions"]
    assert made["model_version"] == "run" and made["score"] == pytest.approx(0.2)
    first = made["result"][0]
    assert (first["score"], first["value"]["rectanglelabels"]) == (0.9, ["dog"])
    assert [first["value"][key] for key in ("x", "y", "width", "height")] == pytest.approx(
        [10.25 / 0.8, 20.5 / 0.6, 20.5 / 0.8, 29.63 / 0.6]
    )
    assert tasks[1]["predictions"][0]["result"] == []
    # Once accepted, predictions are annotations, which are read as labels.
    accepted = [{**task, "annotations": task["predictions"]} for task in tasks]
    (run / "label-studio/tasks.json").write_text(json.dumps(accepted))
    dataset = open_data(run / "label-studio").load("all")
    assert rows(dataset, "a__dog.png") == [("dog", PRECISE), ("person", [0, 0, 80, 60])]


def test_equal_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    sink = LabelmeSink(tmp_path)
    for name in ("a/dog.png", "a__dog.png"):
        sink.write(image_source(name), frame_of(image_source(name)), found())
    assert sorted(path.name for path in (tmp_path / "labelme").glob("*.json")) == ["a__dog-2.json", "a__dog.json"]


def test_datumaro_reads_cvat_s_file(run: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    dataset = datumaro.Dataset.import_from(str(run / "cvat/annotations.xml"), "cvat")
    items = {item.id: item.annotations for item in dataset}
    assert items.keys() == {"a/dog", "cat"}
    assert items["a/dog"][0].get_bbox() == pytest.approx([10.25, 20.5, 20.5, 29.63])


def test_label_studio_s_validator_accepts_the_predictions(run: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    config = interface.LabelInterface((run / "label-studio/label_config.xml").read_text())
    config.validate()
    for task in json.loads((run / "label-studio/tasks.json").read_text()):
        assert config.validate_task({"data": task["data"]})
        for made in task["predictions"]:
            assert config.validate_prediction(made)


def test_labelme_opens_its_files(run: Path) -> None:
    label_file = pytest.importorskip("labelme._label_file")
    opened = label_file.LabelFile(str(run / "labelme/a__dog.json"))
    assert opened.shapes[0]["label"] == "dog"
    assert np.ravel(opened.shapes[0]["points"]) == pytest.approx(PRECISE)


# What detects while somebody labels


class Finds:
    """A detector that finds the same in every image."""

    names = NAMES
    depth = "auto"
    limits: Any = None

    def __init__(self) -> None:
        from yolofpn.structures import Limits

        self.limits = Limits()
        self.asked: list[float] = []

    def predict(self, images: list[Any], limits: Any) -> list[Detections]:
        self.asked.append(limits.score_thresh)
        return [each[each.scores > limits.score_thresh] for each in [found()] * len(images)]

    def __call__(self, image: object) -> Detections:
        return found()


def test_cvat_s_automatic_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cvat_sdk.auto_annotation")
    from cvat_sdk import models
    from cvat_sdk.auto_annotation import DetectionFunctionSpec
    from cvat_sdk.auto_annotation.driver import _AnnotationMapper, _DetectionFunctionContextImpl
    from PIL import Image

    from yolofpn import cvat

    detector = Finds()
    monkeypatch.setattr(cvat, "load_detector", lambda *_, **__: detector)
    function = cvat.create(weights="auto")
    assert isinstance(function.spec, DetectionFunctionSpec)
    assert [label.name for label in function.spec.labels] == list(NAMES)
    image = Image.new("RGB", (80, 60))
    for wanted, count in ((None, 1), (0.1, 2), (0.25, 2), (0.9, 1), (0.95, 0)):
        context = _DetectionFunctionContextImpl(frame_name="a.png", conf_threshold=wanted)
        shapes = function.detect(context, image)
        assert len(shapes) == count, wanted
    shapes = function.detect(_DetectionFunctionContextImpl(frame_name="a.png", conf_threshold=0.0), image)
    assert [shape.points for shape in shapes] == [pytest.approx(PRECISE), [0, 0, 80, 60]]
    # CVAT's own checks, for a task whose labels have other ids
    task_labels = [
        models.Label(id=70 + i, name=name, attributes=[], sublabels=[], type="rectangle")
        for i, name in enumerate(NAMES)
    ]
    mapper = _AnnotationMapper(
        logging.getLogger(), function.spec.labels, task_labels, allow_unmatched_labels=False, conv_mask_to_poly=False
    )
    mapper.validate_and_remap(shapes, 3)
    assert [(shape.label_id, shape.frame) for shape in shapes] == [(72, 3), (70, 3)]


def test_the_example_backend_of_label_studio(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("label_studio_ml.model")
    monkeypatch.setattr("yolofpn.load_detector", lambda *_: Finds())
    example = Path(__file__).parents[2] / "examples/label_studio_backend.py"
    backend = runpy.run_path(str(example))["Backend"]()
    backend.get_local_path = lambda url: str(run / "labelme/a__dog.png")
    tasks = [{"data": {"image": "/data/local-files/?d=x.png"}}]
    assert backend.predict(tasks, context=None) == [prediction(found(), (60, 80), "auto")]


def test_cvat_s_files_of_many_videos_are_closed(tmp_path: Path) -> None:
    sink = CvatSink(tmp_path)
    for number in range(20):
        for source in (video(f"{number}.mp4"), image_source(f"{number}.png")):
            sink.write(source, frame_of(source, noise(8, 8)), nothing_found())
    opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert sorted(path.name for path in opened if tmp_path in path.parents) == ["19.xml", "annotations.xml"]
    sink.close()
    written = [ElementTree.parse(path).findall("image") for path in sorted((tmp_path / "cvat").iterdir())]
    assert sorted(map(len, written)) == [1] * 20 + [20]


def test_characters_that_xml_forbids_are_escaped(tmp_path: Path) -> None:
    sink = CvatSink(tmp_path)
    name = "a\x01\x1b\udcff\uffff.png"
    detections = replace(two_found()[:1], names=("a", "b", "dog\x08"))
    sink.write(image_source(name), frame_of(image_source(name)), detections)
    sink.close()
    root = ElementTree.parse(tmp_path / "cvat/annotations.xml").getroot()
    assert [image.get("name") for image in root.iter("image")] == ["a\\u0001\\u001b\\udcff\\uffff.png"]
    assert [box.get("label") for box in root.iter("box")] == ["dog\\u0008"]
    assert [label.text for label in root.iterfind("meta//label/name")] == ["a", "b", "dog\\u0008"]
    voc = ElementTree.fromstring(voc_xml(written_image(name, (60, 80), detections)))
    assert (voc.findtext("filename"), voc.findtext("object/name")) == (
        "a\\u0001\\u001b\\udcff\\uffff.png",
        "dog\\u0008",
    )
