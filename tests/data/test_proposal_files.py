"""Proposals from a file, and on their way through everything that varies an image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.small_dataset import bright_extent, write_dataset
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.proposal_files import with_proposals
from yolofpn.data.sampler import SampleKey
from yolofpn.data.samples import EvaluationSamples
from yolofpn.data.training_samples import TrainingSamples
from yolofpn.data.transforms import Augmentation
from yolofpn.errors import UserError

SIZE = (64, 64)
STILL = Augmentation(
    flip=0, hue=0, saturation=0, brightness=0, scale=(1, 1), translate=0, crop=0, mosaic=0, mixup=0, min_visibility=0.01
)


def write(path: Path, items: Any) -> Path:
    path.write_text(json.dumps(items))
    return path


def item(image_id: int, box: list[float], **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": 0.5, **more}


def items_of(dataset: DetectionDataset) -> list[dict[str, Any]]:
    """Of image i the boxes i, 0, 10 + i, 20 and the whole image, those of the last image first."""
    boxes = [(i, [i, 0, 10, 20]) for i in range(len(dataset))] + [(i, [0, 0, 80, 60]) for i in range(len(dataset))]
    return [item(100 + i, list(map(float, box))) for i, box in reversed(boxes)]


def test_boxes_find_their_images(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images")
    by_id = items_of(dataset)
    with_strangers = [*by_id, item(7, [0, 0, 9000, 9000])]
    by_name = [
        {"file_name": f"{each['image_id'] - 100}.png", "bbox": each["bbox"], "segmentation": {"size": [1, 2]}}
        for each in by_id
    ]
    for items in (by_id, with_strangers, by_name):
        found, note = with_proposals(dataset, write(tmp_path / "p.json", items), "val")
        assert "2 for each of the 6 images of val" in note
        assert ("1 images that it has" in note) == (items is with_strangers)
        for index in range(6):
            proposals = found.target(index).proposals
            assert proposals is not None
            assert proposals.tolist() == [[0, 0, 80, 60], [index, 0, 10 + index, 20]]
    part = found.subset([4, 1])
    assert [part.target(i).proposals.tolist()[1][0] for i in (0, 1)] == [4, 1]  # type: ignore[union-attr]
    assert part.target(0, (30, 8)).proposals.tolist() == [[0, 0, 8, 30], [4, 0, 8, 20]]  # type: ignore[union-attr]
    assert found.nbytes == dataset.nbytes + 7 * 8 + 12 * 16
    assert dataset.target(0).proposals is None


def test_an_image_that_cannot_be_read_needs_none(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images")
    (tmp_path / "images" / "3.png").write_bytes(b"x")
    items = [each for each in items_of(dataset) if each["image_id"] != 103] + [item(100, [5, 5, 0, 3])]
    found, _ = with_proposals(dataset, write(tmp_path / "p.json", items), "val")
    counts = [len(found.target(i).proposals) for i in range(6)]  # type: ignore[arg-type]
    assert counts == [2, 2, 2, 0, 2, 2]  # a box without a width is none
    sample = EvaluationSamples(found)[SampleKey(3, 0, SIZE)]
    assert sample.failures and sample.target.proposals is not None and len(sample.target.proposals) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory: expected proposals"),
        ("[{", "not valid JSON"),
        ("{}", "holds no list of proposals"),
        ('[{"image_id": 100}]', "item 0: {'image_id': 100}\neach needs the image's image_id"),
        ('[{"bbox": [0, 0, 1, 1]}]', "item 0: "),
        ('[{"image_id": 100, "bbox": [0, 0, 1]}]', "item 0: "),
        ('[{"image_id": 100, "bbox": [0, 0, "1", 1]}]', "item 0: "),
        ('[{"image_id": 100, "bbox": [0, 0, NaN, 1]}]', "is not a box"),
        ('[{"image_id": 100, "bbox": [0, 0, -3, 1]}]', "is not a box"),
        ('[{"image_id": 100, "bbox": [0, 0, 90, 10]}]', "reaches out of .*0.png, which has 80x60 pixels: are these"),
        (
            '[{"image_id": 100, "bbox": [0, 0, 9, 9]}]',
            r"for 5 of the 6 images of train, such as .*1.png \(image_id 101",
        ),
        (
            '[{"image_id": 5, "bbox": [0, 0, 9, 9]}]',
            "for 6 of the 6 .*; 1 others that it has are not in train\n.*--split",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | None, message: str) -> None:
    dataset = write_dataset(tmp_path / "images")
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        with_proposals(dataset, path, "train")
    assert str(path) in str(error.value) and str(error.value).count("\n") <= 1


def test_a_wrong_annotated_size_is_no_fault_of_the_proposals(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images")
    smaller = replace(dataset, sizes=dataset.sizes // 2)
    found, _ = with_proposals(smaller, write(tmp_path / "p.json", items_of(dataset)), "val")
    _, target = found[0]
    assert target.proposals is not None and target.proposals[0].tolist() == [0, 0, 80, 60]


def test_a_name_of_two_images_names_neither(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "images")
    twice = dataset.subset([0, 1, 1])
    items = [{"file_name": f"{number}.png", "bbox": [0, 0, 9, 9]} for number in (0, 1)]
    with pytest.raises(UserError, match=r"for 2 of the 3 images of val, such as .*1\.png"):
        with_proposals(twice, write(tmp_path / "p.json", items), "val")


@pytest.fixture
def marked(tmp_path: Path) -> DetectionDataset:
    """Images with one bright object, which is also the first of their proposals; the other is all around it."""
    dataset = write_dataset(tmp_path / "images", count=6).subset([1, 4])
    items = [item(number, [5, 5, 20, 30]) for number in (101, 104)]
    items += [item(number, [0, 0, 80, 60]) for number in (101, 104)]
    return with_proposals(dataset, write(tmp_path / "p.json", items), "train")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": 1.0},
        {"vertical_flip": 1.0},
        {"scale": (0.6, 0.8)},
        {"translate": 0.3},
        {"crop": 1.0, "crop_scale": 0.3},
        {"flip": 0.5, "vertical_flip": 0.5, "scale": (0.5, 1.6), "translate": 0.2, "crop": 0.5},
    ],
    ids=["letterbox", "flip", "upside down", "scale", "translate", "crop", "all"],
)
def test_proposals_go_where_the_pixels_go(marked: DetectionDataset, changes: dict[str, Any]) -> None:
    samples = TrainingSamples(marked, replace(STILL, **changes), seed=3)
    plain = TrainingSamples(replace(marked, proposals=None), replace(STILL, **changes), seed=3)
    for epoch in range(4):
        sample, without = (each[SampleKey(epoch % 2, epoch, SIZE)] for each in (samples, plain))
        assert torch.equal(sample.image, without.image)  # proposals change nothing of what is drawn at random
        assert torch.equal(sample.target.boxes, without.target.boxes) and without.target.proposals is None
        proposals = sample.target.proposals
        assert proposals is not None and len(proposals) == 2
        torch.testing.assert_close(proposals[0], sample.target.boxes[0], atol=1e-3, rtol=0)
        shown = bright_extent(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
        assert np.abs(proposals[0].numpy() - shown).max() <= 1.5
        assert not sample.target.ignore.any() and sample.target.labels.tolist() == [0]


def test_mosaic_and_mixup_bring_those_of_every_image(marked: DetectionDataset) -> None:
    mosaic = TrainingSamples(marked, replace(STILL, mosaic=1.0, mosaic_zoom=(0.5, 0.5)), seed=0)
    target = mosaic[SampleKey(0, 0, SIZE)].target
    assert target.proposals is not None and len(target.proposals) == 8 and len(target) == 4
    for box in target.boxes:
        assert (target.proposals - box).abs().amax(dim=1).min() < 1e-3
    mixed = TrainingSamples(marked, replace(STILL, mixup=1.0), seed=0)[SampleKey(0, 0, SIZE)].target
    assert mixed.proposals is not None and len(mixed.proposals) == 4


def test_evaluation_places_them_and_measures_without(marked: DetectionDataset) -> None:
    sample = EvaluationSamples(marked)[SampleKey(0, 0, SIZE)]
    assert sample.target.proposals is not None
    torch.testing.assert_close(sample.target.proposals[0], sample.target.boxes[0])
    assert sample.target.proposals[1].tolist() == [0, 8, 64, 56]  # 80 x 60 in 64 x 64: scaled by .8, 8 rows above
    assert sample.original is not None and sample.original.proposals is None
