import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from tests.inference.fakes import FakeSource, frame_of, image_source, nothing_found, two_found, video
from yolofpn.sinks.coco_results import CocoSink
from yolofpn.structures import Detections


def write(folder: Path, *sources: FakeSource, image_ids: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """The images that a run over ``sources`` lists."""
    sink = CocoSink(folder, image_ids)
    for source in sources:
        sink.write(source, frame_of(source), two_found())
    sink.close()
    images: list[dict[str, Any]] = json.loads((folder / "images.json").read_text())
    return images


def test_pycocotools_loads_the_results(tmp_path: Path) -> None:
    images = write(tmp_path, image_source("dog.jpg"), image_source("000000000139.jpg"))
    categories = [{"id": number, "name": str(number)} for number in (1, 2, 18)]
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    with contextlib.redirect_stdout(io.StringIO()):
        results = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "detections.coco.json"))
    found = results.loadAnns(results.getAnnIds(imgIds=[139]))
    assert [(item["category_id"], item["bbox"]) for item in found] == [
        (18, [10.0, 20.0, 20.0, 30.0]),
        (1, [0.0, 0.0, 80.0, 60.0]),
    ]
    assert [item["score"] for item in found] == [0.9, 0.25]


def test_ids_are_the_digits_of_a_name_else_running(tmp_path: Path) -> None:
    images = write(
        tmp_path,
        image_source("dog.jpg"),
        image_source("a/000000000139.jpg"),
        image_source("cat.jpg"),
        image_source("1x.jpg"),
    )
    assert [(image["file_name"], image["id"]) for image in images] == [
        ("dog.jpg", 1),
        ("a/000000000139.jpg", 139),
        ("cat.jpg", 2),
        ("1x.jpg", 3),
    ]
    assert images[0] == {"id": 1, "file_name": "dog.jpg", "width": 80, "height": 60}


def test_ids_are_never_given_twice(tmp_path: Path) -> None:
    images = write(
        tmp_path, image_source("dog.jpg"), image_source("1.jpg"), image_source("a/7.jpg"), image_source("b/7.jpg")
    )
    assert [image["id"] for image in images] == [1, 2, 7, 3]


def test_the_ids_of_a_data_set_come_first(tmp_path: Path) -> None:
    ids = {"dog.jpg": 1, "a/5.jpg": 50, "b/5.jpg": 51}
    sources = [image_source(name) for name in ("5.jpg", "a/5.jpg", "b/5.jpg", "x/dog.jpg", "50.jpg", "new.jpg")]
    images = write(tmp_path, *sources, image_ids=ids)
    assert [image["id"] for image in images] == [5, 50, 51, 1, 2, 3]


def test_long_numbers_are_no_ids(tmp_path: Path) -> None:
    images = write(tmp_path, image_source("20250131120000123456.jpg"), image_source("٣.jpg"))
    assert [image["id"] for image in images] == [1, 2]


def test_every_frame_of_a_video_is_an_image(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path)
    clip = video("7.mp4")
    for index in range(2):
        sink.write(clip, frame_of(clip, index=index, time=index / 10), two_found())
    sink.close()
    images = json.loads((tmp_path / "images.json").read_text())
    assert [(image["id"], image["frame"], image["time"]) for image in images] == [(1, 0, 0.0), (2, 1, 0.1)]
    assert [result["image_id"] for result in json.loads((tmp_path / "detections.coco.json").read_text())] == [
        1,
        1,
        2,
        2,
    ]


def test_the_files_are_valid_after_every_image(tmp_path: Path) -> None:
    sink = CocoSink(tmp_path)
    counts = []
    for detections in (nothing_found(), two_found(), nothing_found(), two_found()):
        counts.append(len(json.loads((tmp_path / "detections.coco.json").read_text())))
        sink.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), detections)
        assert len(json.loads((tmp_path / "images.json").read_text())) == len(counts)
    assert counts == [0, 0, 2, 2]


def test_small_scores_keep_their_order(tmp_path: Path) -> None:
    scores = torch.tensor([0.00100003, 0.00100002, 0.00100001])
    sink = CocoSink(tmp_path)
    sink.write(
        image_source("dog.jpg"),
        frame_of(image_source("dog.jpg")),
        Detections(torch.tensor([[0.12345, 0, 10.0, 10.0]] * 3), scores, torch.zeros(3, dtype=torch.int64)),
    )
    sink.close()
    results = json.loads((tmp_path / "detections.coco.json").read_text())
    assert torch.tensor([result["score"] for result in results]).equal(scores)
    assert results[0]["bbox"] == pytest.approx([0.123, 0, 9.877, 10], abs=1e-9)
    assert results[0]["category_id"] == 0
