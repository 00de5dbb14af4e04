from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from yolofpn.errors import UserError
from yolofpn.inference.selection import choose_limits, split_sources
from yolofpn.structures import Limits

NAMES = ("red", "potted plant")


def test_classes_are_found_in_coco_and_voc_spelling() -> None:
    names = ("motorcycle", "tv", "dining table", "3", "cat", "Cat")
    limits = Limits(score_thresh=0.3)

    def kept(*classes: str | int) -> list[int]:
        thresholds = choose_limits(limits, names, classes=classes).score_thresh
        assert isinstance(thresholds, tuple)
        return [label for label, thresh in enumerate(thresholds) if thresh == 0.3]

    assert kept("motorbike", "TVmonitor", "diningtable") == [0, 1, 2]
    assert kept("3") == [3]
    assert kept(1) == [1]
    assert kept("cat") == [4, 5]


def test_one_class_needs_no_list() -> None:
    names = ("cat", "dog", "d")
    assert choose_limits(Limits(0.3), names, classes="dog").score_thresh == (1.0, 0.3, 1.0)


def test_limits_given_stand_in_for_those_of_the_weights() -> None:
    known = Limits(score_thresh=(0.2, 0.7), nms_thresh=0.6, detections_per_img=9)
    assert choose_limits(known, NAMES) == known
    assert choose_limits(known, NAMES, score_thresh=0.0) == replace(known, score_thresh=0.0)
    assert choose_limits(known, NAMES, nms_thresh=0.0) == replace(known, nms_thresh=0.0)
    assert choose_limits(known, NAMES, detections_per_img=1) == replace(known, detections_per_img=1)
    assert choose_limits(known, NAMES, classes=["red"]).score_thresh == (0.2, 1.0)
    for wrong in ({"score_thresh": 25.0}, {"nms_thresh": -0.1}, {"detections_per_img": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            choose_limits(known, NAMES, **wrong)


def test_sources_among_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("red", "dog.jpg", "more"):  # a folder called as a class is the class
        (tmp_path / name).mkdir()
    assert split_sources(["red", "1", "dog.jpg", "more"], NAMES) == (["red", "1"], ["dog.jpg", "more"])
    assert split_sources(["red", "rtsp://camera/1"], NAMES) == (["red"], ["rtsp://camera/1"])
    for classes in (["1", "red"], ["dog.jpg"], ["red", "blue"], ["dog.jpg", "red"]):
        assert split_sources(classes, NAMES) == (classes, [])
    with pytest.raises(UserError, match="--source"):
        choose_limits(Limits(), NAMES, classes=["dog.jpg"])
