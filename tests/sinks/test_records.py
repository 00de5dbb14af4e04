import csv
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

from tests.inference.fakes import NAMES, frame_of, image_source, noise, nothing_found, two_found, video
from yolofpn.sinks.csv_table import CsvSink
from yolofpn.sinks.jsonl import JsonLinesSink
from yolofpn.sinks.records import record, utc_text
from yolofpn.structures import Detections, Frame


def test_a_line_is_what_the_documentation_says() -> None:
    assert record(Frame(noise(), "a/dog.jpg"), two_found()) == {
        "source": "a/dog.jpg",
        "frame": 0,
        "time": 0.0,
        "width": 80,
        "height": 60,
        "detections": [
            {"box": [10.0, 20.0, 30.0, 50.0], "score": 0.9, "label": 2, "name": "dog"},
            {"box": [0.0, 0.0, 80.0, 60.0], "score": 0.25, "label": 0, "name": "person"},
        ],
    }


def test_numbers_are_rounded_to_what_they_are_worth() -> None:
    detections = Detections(torch.tensor([[1 / 3, 2 / 3, 10.006, 20.0]]), torch.tensor([0.123456]), torch.tensor([0]))
    line = record(Frame(noise(), "clip.mp4", 7, 7 * 1001 / 30_000), detections)
    assert line["detections"] == [{"box": [0.33, 0.67, 10.01, 20.0], "score": 0.1235, "label": 0, "name": "0"}]
    assert line["time"] == 0.233567


def test_live_frames_tell_when_they_were_taken() -> None:
    clock = datetime(2025, 1, 31, 13, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
    line = record(Frame(noise(), "camera 0", 3, 0.1, clock, stale=True, dropped=2), nothing_found())
    assert (line["clock"], line["stale"], line["dropped"]) == ("2025-01-31T12:00:00.250Z", True, 2)
    assert list(line)[-1] == "detections"


def test_a_clock_without_zone_is_taken_as_utc() -> None:
    assert utc_text(datetime(2025, 1, 31, 12, 0, 0)) == "2025-01-31T12:00:00.000Z"
    assert datetime.fromisoformat(utc_text(datetime.now(UTC))).utcoffset() == timedelta(0)


def test_lines_are_on_disk_before_the_next_frame_begins(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path)
    source = video()
    for index in range(3):
        sink.write(source, frame_of(source, index=index), two_found(("Hündchen", "犬", "dog")))
        lines = (tmp_path / "detections.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["frame"] for line in lines] == list(range(index + 1))
    assert "Hündchen" in lines[0]
    sink.close()


def test_lines_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Only ASCII, which every terminal and pipe takes."""
    sink = JsonLinesSink(None)
    sink.write(image_source("dog.jpg"), frame_of(image_source("dog.jpg")), two_found(("Hündchen", "b", "c")))
    sink.close()
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["detections"][1]["name"] == "Hündchen"


def test_csv_has_a_row_per_detection(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path)
    names = ('a "quoted", name', *NAMES[1:])
    sink.write(image_source("b,c.jpg"), frame_of(image_source("b,c.jpg")), two_found(names))
    sink.write(image_source("empty.jpg"), frame_of(image_source("empty.jpg")), nothing_found())
    clip = video("clip.mp4")
    sink.write(clip, frame_of(clip, index=4, time=0.4), two_found()[:1])
    sink.close()
    with (tmp_path / "detections.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    first = {"source": "b,c.jpg", "frame": "0", "time": "0.0", "width": "80", "height": "60", "x1": "0.0", "y1": "0.0"}
    first |= {"x2": "80.0", "y2": "60.0", "score": "0.25", "label": "0", "name": 'a "quoted", name', "track_id": ""}
    assert rows[1] == first
    assert (rows[2]["source"], rows[2]["frame"], rows[2]["time"]) == ("clip.mp4", "4", "0.4")


def test_csv_of_nothing_still_has_its_head(tmp_path: Path) -> None:
    CsvSink(tmp_path).close()
    head = "source,frame,time,width,height,x1,y1,x2,y2,score,label,name,track_id\n"
    assert (tmp_path / "detections.csv").read_text() == head


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "a\r\nb.png", 'a"b,c.png', "\x1b[31m.png"])
def test_a_name_with_line_breaks_is_read_back_from_csv(tmp_path: Path, name: str) -> None:
    sink = CsvSink(tmp_path)
    sink.write(video(), Frame(noise(), name), two_found())
    sink.close()
    with (tmp_path / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [name, name]
