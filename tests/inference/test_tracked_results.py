"""Tracking through detect.py, ``Predictor.stream`` and live sources, with a tracker from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO  # type: ignore[import-untyped]

from tests.commands import call
from tests.inference.fakes import NAMES, noise
from tests.tiny_detector import RED
from tests.tracking.toy import Nearest
from tests.videos import write_video
from yolofpn import load_detector, tracking
from yolofpn.cli.detect import main
from yolofpn.concurrency import Background
from yolofpn.errors import UserError
from yolofpn.inference.tracked_results import TrackedResults
from yolofpn.results import Failure, Result
from yolofpn.sources.kinds import Source
from yolofpn.structures import Detections, Frame, Image, Limits
from yolofpn.tracking.shapes import Shape
from yolofpn.tracking.source_tracks import TrackOptions, followed


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "TRACKERS", (Nearest, *tracking.TRACKERS))


def moving(step: int) -> Image:
    """A red cell of the tiny detector that moves down by half of its side per frame, on a changing gray."""
    image = np.full((128, 192, 3), 8, np.uint8)
    image[16 * step : 16 * step + 32, 64:96] = RED
    return image


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", [moving(step) for step in (0, 0, 2, 2, 4, 4)])


def test_ids_lines_and_files_of_a_video(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--img-size", "128x192", "--line", "door=50,40,120,40", "--zone", "0,.7,1,.7,1,1,0,1"]
    outcome = call(main, capsys, clip, "--weights", weights, "--output", out, *words, "--format", "mot,coco-video,csv")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert [[found["track_id"] for found in line["detections"]] for line in lines] == [[1]] * 6
    assert lines[0]["lines"][0] == {"name": "door", "in": 0, "out": 0, "events": []}
    assert lines[2]["lines"][0]["events"] == [{"track_id": 1, "direction": "in"}]
    assert lines[5]["zones"][0] == {"name": "zone 1", "in": 1, "out": 0, "inside": 1, "events": []}
    assert "tracked 1 red" in outcome.out
    assert "door: 1 in (1 red), 0 out" in outcome.out

    mot = np.loadtxt(out / "mot" / "clip.txt", delimiter=",")
    assert mot[:, :2].astype(int).tolist() == [[frame, 1] for frame in range(1, 7)]
    assert mot[0, 2:6] == pytest.approx([64, 0, 32, 32], abs=0.1)
    tracks = COCO(out / "tracks.coco.json")
    assert [each["name"] for each in tracks.dataset["videos"]] == [str(clip)]
    assert {each["instance_id"] for each in tracks.dataset["annotations"]} == {1}
    assert len(tracks.dataset["annotations"]) == len(tracks.dataset["images"]) == 6
    assert {each["name"] for each in tracks.dataset["categories"]} == {"red", "potted plant"}
    assert (out / "detections.csv").read_text().splitlines()[1].endswith("red,1")


@pytest.mark.slow
def test_stream_gives_ids_trails_and_counts(weights: Path, clip: Path) -> None:
    detector = load_detector(weights, img_size=(128, 192))
    options = TrackOptions("nearest", (Shape("door", ((50.0, 40.0), (120.0, 40.0))),))
    last = list(detector.stream(str(clip), track=options))[-1][1]
    assert last.track_ids is not None
    assert last.tracks is not None
    assert last.track_ids.tolist() == [1]
    assert [y for _, y in last.tracks.trails[1]] == pytest.approx([32, 32, 64, 64, 96, 96], abs=0.1)
    assert last.tracks.shapes[0].entered == 1
    assert list(last.to_pandas()["track_id"]) == [1]
    assert last.to_supervision().tracker_id == np.array([1])
    assert last[:0].track_ids is not None
    untracked = next(detector.stream(str(clip)))[1]
    assert (untracked.track_ids, untracked.tracks) == (None, None)
    skipped = list(detector.stream(str(clip), track=True, vid_stride=2))
    assert [found.track_ids.tolist() for _, found in skipped if found.track_ids is not None] == [[1]] * 3


def test_images_are_not_tracked(weights: Path, good_image: Path) -> None:
    found = next(load_detector(weights).stream(str(good_image), track=True))[1]
    assert len(found) > 0
    assert found.track_ids is None


def source(name: str, kind: Any = "stream") -> Source:
    return Source(name, kind, Path(name), lambda: iter(()))


def one(x: float, score: float = 0.9) -> Detections:
    return Detections([[x, 10, x + 20, 30]], [score], [0], NAMES)


def tracked(*items: Result | Failure, **options: Any) -> TrackedResults:
    results: Iterator[Result | Failure] = Background(iter(items), ahead=9)
    return TrackedResults(results, TrackOptions(**options), Limits(0.5))  # type: ignore[arg-type]


def test_sources_beside_each_other_have_their_own_ids_and_failures_pass() -> None:
    first, second, image = source("a"), source("b"), noise()
    steps = [
        Result(each, Frame(image, each.name, index, index / 10), one(x + index), 0.0)
        for index in range(3)
        for each, x in ((first, 10), (second, 50))
    ]
    results = tracked(*steps[:3], Failure("b: lost"), *steps[3:])
    assert results.peek() is not None
    items = list(results)
    assert isinstance(items[3], Failure)
    ids = [item.detections.track_ids for item in items if isinstance(item, Result)]
    assert [each.tolist() for each in ids if each is not None] == [[1]] * 6
    assert {name.name: counts.started for name, counts in results.counts.items()} == {
        "a": {"person": 1},
        "b": {"person": 1},
    }


def test_a_repeated_frame_keeps_its_ids_and_counts_nothing_twice() -> None:
    camera, image = source("a"), noise()
    door = Shape("door", ((0.0, 25.0), (80.0, 25.0)))
    above, below = one(10), Detections([[10, 16, 30, 36]], [0.9], [0], NAMES)
    above = replace(above, boxes=np.array([[10, 0, 30, 20]], np.float32))
    frames = [Frame(image, "a", 0, 0.0), Frame(image, "a", 1, 0.1), Frame(image, "a", 1, 2.2, stale=True)]
    found = [above, replace(above, boxes=np.array([[10, 4, 30, 24.5]], np.float32)), below]
    frames.insert(2, Frame(image, "a", 2, 0.2))
    found.insert(2, below)
    items = [Result(camera, frame, each, 0.0) for frame, each in zip(frames, found, strict=True)]
    done = [item.detections for item in tracked(*items, shapes=(door,)) if isinstance(item, Result)]
    shapes = [each.tracks.shapes[0] for each in done if each.tracks is not None]
    assert [shape.entered for shape in shapes] == [0, 0, 1, 1]
    assert [len(shape.events) for shape in shapes] == [0, 0, 1, 0]
    assert done[3].boxes.tolist() == done[2].boxes.tolist()


def test_a_cut_and_a_new_file_start_new_ids() -> None:
    first, second, image = source("a", "video"), source("b", "video"), noise()
    other = np.full_like(image, (0, 200, 0))
    other[:30] = (250, 0, 0)
    items = [
        Result(each, Frame(shown, each.name, index, index / 10), one(10), 0.0)
        for each, shown_ones in ((first, (image, image, other, other)), (second, (image, image)))
        for index, shown in enumerate(shown_ones)
    ]
    ids = [item.detections.track_ids for item in tracked(*items) if isinstance(item, Result)]
    assert [each.tolist() for each in ids if each is not None] == [[1], [1], [2], [2], [1], [1]]


def test_weak_detections_are_kept_only_where_they_continue_a_track() -> None:
    camera, image = source("a"), noise()
    weak = Detections([[11, 10, 31, 30], [50, 10, 70, 30]], [0.3, 0.3], [0, 0], NAMES)
    items = [Result(camera, Frame(image, "a", 0, 0.0), one(10), 0), Result(camera, Frame(image, "a", 1, 0.1), weak, 0)]
    last = list(tracked(*items))[-1]
    assert isinstance(last, Result)
    assert last.detections.boxes[:, 0].tolist() == [11]
    assert followed(Limits((0.5, 1.0))).score_thresh == (0.2, 1.0)


def test_the_drawing_shows_ids_trails_lines_and_zones() -> None:
    camera, image = source("a"), np.zeros((120, 160, 3), np.uint8)
    shapes = (Shape("door", ((5.0, 60.0), (155.0, 60.0))), Shape("yard", ((90.0, 70.0), (150.0, 70.0), (150.0, 110.0))))
    items = [Result(camera, Frame(image, "a", i, i / 10), one(10 + 8 * i), 0) for i in range(4)]
    found = list(tracked(*items, shapes=shapes))[-1]
    assert isinstance(found, Result)
    drawn = found.detections.draw(image)
    plain = replace(found.detections, tracks=None).draw(image)
    assert drawn[60, 20].any()  # the line
    assert drawn[80, 140].any()  # within the zone
    assert drawn[30, 25].any()  # the trail, which the box has left
    assert not plain[60, 20].any()
    assert not plain[80, 140].any()
    assert (plain != replace(found.detections, tracks=None, track_ids=None).draw(image)).any()
    half = found.detections.tracks
    assert half is not None
    assert half.scaled(0.5).shapes[0].points == ((2.5, 30.0), (77.5, 30.0))
    assert image.max() == 0


@pytest.mark.parametrize("words", [["--line", "1,2,3"], ["--zone", "1,2,3,4"], ["--line", "door=a,b,c,d"]])
def test_bad_lines_are_refused_by_the_parser(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, capsys, *words).code == 2


def test_bad_shapes_and_names_are_refused(weights: Path, good_image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = ["--line", "door=1,2,3,4", "--zone", "door=0,0,9,0,9,9"]
    for words in (["--line", "5,5,5,5"], twice):
        assert call(main, capsys, good_image, "--weights", weights, *words).code == 2
    with pytest.raises(UserError):
        next(load_detector(weights).stream(str(good_image), track="unknown"))
