import json
from pathlib import Path

import cv2
import pytest

from tests.inference.fakes import frame_of, image_source, noise, two_found, video
from yolofpn.errors import UserError
from yolofpn.sinks import SINKS
from yolofpn.sinks.opened import Sinks, build_sinks
from yolofpn.structures import Detections, Frame

KEYS = [sink.key for sink in SINKS]


class Recorder:
    """A sink that notes what happens to it, and fails where it is told to."""

    def __init__(self, journal: list[str], name: str, *, fails: bool = False) -> None:
        self.journal, self.name, self.fails = journal, name, fails

    def write(self, source: object, frame: Frame, detections: Detections) -> None:
        self.journal.append(f"write {self.name}")

    def close(self) -> None:
        self.journal.append(f"close {self.name}")
        if self.fails:
            raise UserError(f"{self.name} failed")


def test_all_sinks_are_closed_in_their_order_even_if_one_fails() -> None:
    journal: list[str] = []
    sinks = Sinks([Recorder(journal, "a"), Recorder(journal, "b", fails=True), Recorder(journal, "c")])
    with pytest.raises(UserError, match="b failed"), sinks:
        sinks.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found())
    assert journal == ["write a", "write b", "write c", "close a", "close b", "close c"]


def test_an_interrupted_run_closes_its_sinks() -> None:
    journal: list[str] = []
    with pytest.raises(KeyboardInterrupt), Sinks([Recorder(journal, "a")]):
        raise KeyboardInterrupt
    assert journal == ["close a"]


def test_every_format_at_once(tmp_path: Path) -> None:
    clip = video("b/clip.avi")
    with build_sinks(tmp_path / "new" / "folder", formats=KEYS) as sinks:
        sinks.write(image_source("a/dog.png"), frame_of(image_source("a/dog.png")), two_found())
        sinks.write(clip, frame_of(clip), two_found())
    root = tmp_path / "new" / "folder"
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
        "a/dog.png",
        "b/clip.mp4",
        "crops/dog/a/dog_0.png",
        "crops/dog/b/clip_000000_0.jpg",
        "crops/person/a/dog_1.png",
        "crops/person/b/clip_000000_1.jpg",
        "cvat/annotations.xml",
        "cvat/b/clip.xml",
        "dataset/data.yaml",
        "dataset/train/classes.txt",
        "dataset/train/images/a__dog.png",
        "dataset/train/images/b__clip_000000.jpg",
        "dataset/train/labels/a__dog.txt",
        "dataset/train/labels/b__clip_000000.txt",
        "detections.coco.json",
        "detections.csv",
        "detections.jsonl",
        "images.json",
        "label-studio/images/a__dog.png",
        "label-studio/images/b__clip_000000.jpg",
        "label-studio/label_config.xml",
        "label-studio/tasks.json",
        "labelme/a__dog.json",
        "labelme/a__dog.png",
        "labelme/b__clip_000000.jpg",
        "labelme/b__clip_000000.json",
        "labels/a/dog.txt",
        "labels/b/clip_000000.txt",
        "mot/b/clip.txt",
        "tracks.coco.json",
    ]


@pytest.mark.parametrize(("formats", "media"), [((), "none"), (("jsonl",), "none")])
def test_the_json_lines_are_always_written(tmp_path: Path, formats: tuple[str, ...], media: str) -> None:
    with build_sinks(tmp_path, formats=formats, media=media) as sinks:  # type: ignore[arg-type]
        sinks.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found())
    assert [path.name for path in tmp_path.iterdir()] == ["detections.jsonl"]


def test_a_folder_that_is_named_is_written_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with build_sinks(tmp_path) as sinks:
            sinks.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg"), noise()), two_found())
    assert len((tmp_path / "detections.jsonl").read_text().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detections.jsonl", "dog.jpg"]


def test_standard_output_takes_json_lines_only(capsys: pytest.CaptureFixture[str]) -> None:
    with build_sinks(None) as sinks:
        sinks.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found())
    assert json.loads(capsys.readouterr().out)["width"] == 80
    with pytest.raises(UserError, match="folder"):
        build_sinks(None, formats=("jsonl", "coco"))


def test_an_unknown_format_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean jsonl"):
        build_sinks(tmp_path, formats=("json",))
    with pytest.raises(UserError, match="choose"):
        build_sinks(tmp_path, formats=("xyz",))


def test_a_file_in_the_place_of_the_folder_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="written"):
        build_sinks(tmp_path / "file")


def test_a_full_disk_ends_the_run_and_loses_nothing_that_was_written(small_disk: Path) -> None:
    with pytest.raises(UserError, match="space"), build_sinks(small_disk, formats=KEYS) as sinks:
        for index in range(1000):
            source = image_source(f"{index:04}.png")
            sinks.write(source, frame_of(source, noise(seed=index)), two_found())
    lines = [json.loads(line) for line in (small_disk / "detections.jsonl").read_text().splitlines()]
    assert len(lines) >= 2
    results = json.loads((small_disk / "detections.coco.json").read_text())
    assert len(results) in (2 * len(lines), 2 * len(lines) + 2)  # the line of an image is written last
    images = sorted(small_disk.rglob("*.png"))
    assert len(images) >= 8
    assert all(cv2.imread(str(path)) is not None for path in images)
    assert not list(small_disk.rglob("*.part"))
