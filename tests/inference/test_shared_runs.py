"""``detect.py --shard`` and ``--resume``: every input exactly once, whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from tests.commands import Outcome, call
from tests.tiny_detector import GREEN, RED, quarters
from tests.videos import shades, write_video
from yolofpn.cli import detect as command
from yolofpn.errors import UserError
from yolofpn.video.writer import VideoWriter

SOURCES = 12


def detect(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(command.main, capsys, *words)


@pytest.fixture(autouse=True)
def images(in_own_folder: Path) -> Path:
    """Eleven images, the third of which is damaged, and a video of three frames among them."""
    for index in range(SOURCES - 1):
        path = Path("in", f"day{index % 2}", f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), quarters(RED, *[GREEN] * (index % 3)))
    Path("in/day0/2.png").write_bytes(b"no image")
    write_video(Path("in/day0/5.mp4"), shades(3))
    return Path("in")


def lines(folder: str | Path) -> list[str]:
    path = Path(folder, "detections.jsonl")
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_shards_share_the_sources_and_cat_joins_them(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detect(capsys, "in", "--weights", weights, "--output", "whole", "--media", "none")
    parts, failures = [], 0
    for number in range(1, 5):
        outcome = detect(capsys, "in", "--weights", weights, "--output", f"{number}", "--shard", f"{number}/4")
        failures += outcome.err.count("failed: ")
        assert outcome.code == ("failed: " in outcome.err) and f"shard {number}/4" in outcome.out
        parts.append(lines(str(number)))
    assert failures == 1
    joined = [line for part in parts for line in part]
    assert len(joined) == SOURCES - 2 + 3 and sorted(joined) == sorted(lines("whole"))
    assert sum(bool(part) for part in parts) > 1

    # A source keeps its part when others go, and wherever the folder lies.
    number, source = next((n, json.loads(line)["source"]) for n, part in enumerate(parts, 1) for line in part)
    Path("in").rename("elsewhere")
    moved = Path("elsewhere", Path(source).relative_to("in"))
    for path in Path("elsewhere").rglob("*.*"):
        if path != moved:
            path.unlink()
    detect(capsys, "elsewhere", "--weights", weights, "--output", "moved", "--shard", f"{number}/4", "--media", "none")
    assert {json.loads(line)["source"] for line in lines("moved")} == {str(moved)}


def test_a_part_without_sources_is_done(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = [
        detect(capsys, "in/day1/1.png", "--weights", weights, "--output", f"{n}", "--shard", f"{n}/3").code
        for n in (1, 2, 3)
    ]
    assert codes == [0, 0, 0]
    assert sorted(len(lines(str(n))) for n in (1, 2, 3)) == [0, 0, 1]
    assert all(Path(str(n), "detections.jsonl").exists() for n in (1, 2, 3))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b"])
def test_what_is_no_part(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = detect(capsys, "in", f"--shard={text}")
    assert outcome.code == 2 and "part K/N" in outcome.err


@pytest.mark.slow
def test_a_run_goes_on_wherever_it_ended(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After every line, and within the next one."""
    flags = ("in", "--weights", weights, "--format", "yolo,crops", "--batch-size", 3)
    detect(capsys, *flags, "--output", "whole")
    whole = Path("whole/detections.jsonl").read_bytes().splitlines(keepends=True)
    assert len(whole) == 13
    for kept in range(13):
        cut = Path(f"cut{kept}", "detections.jsonl")
        cut.parent.mkdir()
        cut.write_bytes(b"".join(whole[:kept]) + b"".join(whole[kept:])[:30])
        outcome = detect(capsys, *flags, "--resume", cut.parent)
        assert outcome.code == 1 and outcome.err.count("failed: ") == 1  # the damaged image is tried again
        assert cut.read_bytes().splitlines(keepends=True) == whole, kept
        done = {json.loads(line)["source"] for line in whole[: max(0, kept - 1)]}
        last = {json.loads(line)["source"] for line in whole[kept - 1 : kept]}
        assert f"resuming {cut.parent}: {len(done - last)} done" in outcome.out


def test_a_finished_run_has_nothing_to_do_but_its_last_source(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("in/day1", "--weights", weights, "--media", "none")
    detect(capsys, *flags, "--output", "out")
    before = lines("out")
    for _ in range(2):
        outcome = detect(capsys, *flags, "--resume", "out")
        assert outcome.code == 0 and "1 image" in outcome.out and lines("out") == before


@pytest.mark.slow
def test_a_killed_run_is_resumed_with_every_file(tiny_graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["in", "--weights", str(tiny_graph), "--format", "yolo"]
    detect(capsys, *flags, "--output", "whole")
    # Within the files of 8.png the run waits until it is killed.
    script = (
        "import sys, time\n"
        "from yolofpn.sinks.media import MediaSink\n"
        "from yolofpn.cli.detect import main\n"
        "write = MediaSink.write\n"
        "def slow(self, source, frame, detections):\n"
        "    if source.name.endswith('8.png'): time.sleep(600)\n"
        "    write(self, source, frame, detections)\n"
        "MediaSink.write = slow\n"
        "main(sys.argv[1:])\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script, *flags, "--output", "cut"], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not Path("cut/labels/day0/8.txt").exists() and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert lines("cut") and not any("8.png" in line for line in lines("cut"))
    assert detect(capsys, *flags, "--resume", "cut").code == 1
    assert lines("cut") == lines("whole")
    files = [{path.relative_to(folder) for path in Path(folder).rglob("*")} for folder in ("cut", "whole")]
    assert files[0] == files[1] and Path("day0/8.png") in files[0]


@pytest.mark.slow
def test_a_video_whose_file_could_not_be_finished_is_done_again(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    detect(capsys, "in", "--weights", weights, "--output", "whole")
    finish = VideoWriter.close

    def full(self: VideoWriter) -> None:
        monkeypatch.setattr(VideoWriter, "close", finish)
        finish(self)
        self.path.unlink()
        raise UserError("the disk is full")

    monkeypatch.setattr(VideoWriter, "close", full)
    assert detect(capsys, "in", "--weights", weights, "--output", "cut").code == 2
    assert json.loads(lines("cut")[-1])["source"].endswith("5.mp4") and not Path("cut/day0/5.mp4").exists()
    detect(capsys, "in", "--weights", weights, "--resume", "cut")
    assert lines("cut") == lines("whole") and Path("cut/day0/5.mp4").exists()


def test_images_whose_names_meet_keep_their_own_files(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names").mkdir()
    cv2.imwrite("names/a.png", quarters(RED))
    Path("names/a.png").rename("names/a?b.png")
    cv2.imwrite("names/a_b.png", quarters(GREEN))
    cv2.imwrite("names/c.png", quarters(GREEN))
    flags = ("names", "--weights", weights, "--format", "yolo", "--media", "none")
    detect(capsys, *flags, "--output", "out")
    before = {path: path.read_bytes() for path in Path("out/labels").iterdir()}
    assert len(before) == 3
    detect(capsys, *flags, "--resume", "out")
    assert {path: path.read_bytes() for path in Path("out/labels").iterdir()} == before


def test_live_sources_keep_their_lines(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("live").mkdir()
    text = '{"source": "rtsp://camera", "frame": 0, "clock": "2026-01-01T00:00:00.000Z", "detections": []}\n'
    Path("live/detections.jsonl").write_text(text)
    outcome = detect(capsys, "in", "--weights", weights, "--resume", "live")
    assert outcome.code == 2 and "live" in outcome.err
    assert Path("live/detections.jsonl").read_text() == text


def test_what_cannot_be_resumed(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = detect(capsys, "in", "--weights", weights, "--resume", "nowhere")
    assert missing.code == 2 and "nowhere" in missing.err and not Path("nowhere").exists()
    Path("other").mkdir()
    Path("other/detections.jsonl").write_text('{"id": 3}\n')
    assert detect(capsys, "in", "--weights", weights, "--resume", "other").code == 2
    assert Path("other/detections.jsonl").read_text() == '{"id": 3}\n'
    Path("other/detections.jsonl").unlink()
    table = detect(capsys, "in", "--weights", weights, "--resume", "other", "--format", "csv")
    assert table.code == 2 and "csv" in table.err
    both = detect(capsys, "in", "--weights", weights, "--resume", "other", "--output", "more")
    assert both.code == 2 and "--output" in both.err
