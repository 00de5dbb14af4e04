from __future__ import annotations

from itertools import islice
from pathlib import Path
from statistics import fmean

import cv2
import pytest

from benchmarking.candidates import NETWORK, POST, PRE, OurCandidate
from benchmarking.stages import DECODE, DRAW, ENCODE, JSON, Stages, end_to_end, endless_frames, first_frames
from tests.tiny_detector import GREEN, RED, quarters, write_tiny
from tests.videos import shades, write_video
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import load_detector
from yolofpn.inference.predictor import Predictor
from yolofpn.sinks.opened import Sinks, build_sinks
from yolofpn.sinks.output_names import SourceInfo
from yolofpn.sources.resolve import Source, resolve_sources
from yolofpn.structures import Detections, Frame


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return load_detector(write_tiny(tmp_path / "weights"), backend="torch", precision="fp32", device="cpu")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED, GREEN))
    write_video(tmp_path / "b.mp4", shades(3))
    return list(resolve_sources([str(tmp_path / "a.png"), str(tmp_path / "b.mp4")]))


def test_frames_begin_again_at_the_end(sources: list[Source]) -> None:
    given = [(source.relative_path.name, frame.index) for source, frame in islice(endless_frames(sources), 6)]
    assert given == [("a.png", 0), ("b.mp4", 0), ("b.mp4", 1), ("b.mp4", 2), ("a.png", 0), ("b.mp4", 0)]


def test_damaged_sources_are_left_out_unless_there_are_no_others(tmp_path: Path, sources: list[Source]) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bad = next(resolve_sources([str(tmp_path / "bad.jpg")]))
    given = [source.relative_path.name for source, _ in islice(endless_frames([bad, sources[0]]), 3)]
    assert given == ["a.png"] * 3
    with pytest.raises(UserError, match="source"):
        next(endless_frames([bad]))


@pytest.mark.parametrize(("limit", "expected"), [(2, [1, 1]), (3, [1, 2]), (10, [1, 3]), (1, [1])])
def test_first_frames_of_all_sources_together(sources: list[Source], limit: int, expected: list[int]) -> None:
    assert [len(list(source.frames())) for source in first_frames(sources, limit)] == expected


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_stage_of_every_image_is_timed(
    predictor: Predictor, sources: list[Source], tmp_path: Path, batch_size: int
) -> None:
    stages = Stages(OurCandidate("tiny", predictor, batch_size), sources, tmp_path)
    before = sorted(tmp_path.iterdir())
    (total,) = stages.turn(0, at_least=4)
    assert list(stages.seconds) == [DECODE, PRE, NETWORK, POST, DRAW, ENCODE, JSON]
    assert all(min(values) > 0 for values in stages.seconds.values())
    assert {len(values) for stage, values in stages.seconds.items() if stage != ENCODE} == {4}
    # Four or eight images: a.png, three frames of a video, and so on; the frames of the video go together.
    assert len(stages.seconds[ENCODE]) == batch_size + 1
    assert total == pytest.approx(sum(fmean(values) for values in stages.seconds.values()))
    assert sorted(tmp_path.iterdir()) == before  # nothing is left behind
    stages.clear()
    (again,) = stages.turn(0, at_least=1)
    assert again == pytest.approx(sum(fmean(values) for values in stages.seconds.values()))


def test_end_to_end_writes_what_detection_writes(
    predictor: Predictor, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    class NotedSinks(Sinks):
        def __init__(self, folder: Path) -> None:
            written.append(folder)
            self._of_folder = build_sinks(folder)

        def write(self, source: SourceInfo, frame: Frame, detections: Detections) -> None:
            self._of_folder.write(source, frame, detections)

        def close(self) -> None:
            self._of_folder.close()
            written.extend(sorted(written[0].iterdir()))

    monkeypatch.setattr("benchmarking.stages.build_sinks", NotedSinks)
    assert end_to_end(predictor, sources, 1, 100) > 0
    assert [path.name for path in written[1:]] == ["a.png", "b.mp4", "detections.jsonl"]
    assert not written[0].exists()  # nothing is left behind


def test_end_to_end_of_nothing(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="source"):
        end_to_end(predictor, list(resolve_sources([str(tmp_path / "bad.jpg")])), 1, 10)


def test_videos_of_different_sizes_are_encoded_apart(predictor: Predictor, tmp_path: Path) -> None:
    write_video(tmp_path / "small.mp4", shades(2))
    write_video(tmp_path / "large.mp4", shades(2, 96, 128))
    paths = [str(tmp_path / "small.mp4"), str(tmp_path / "large.mp4")]
    stages = Stages(OurCandidate("tiny", predictor), list(resolve_sources(paths)), tmp_path)
    stages.turn(0, at_least=6)
    assert len(stages.seconds[ENCODE]) == 2
