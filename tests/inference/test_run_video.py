"""``detect.py`` on videos, by its command: times, sound, rotation, odd sizes, a kill, and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters
from tests.training.commands import run_ranks
from tests.video.test_writer import frame_times, top_boxes, write_sound
from tests.videos import write_video
from yolofpn.cli import detect as command

MILLISECONDS = [0, 40, 90, 300, 310, 900, 1000]


pytestmark = [pytest.mark.usefixtures("in_own_folder"), pytest.mark.slow]


@pytest.fixture
def detect(weights: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: object) -> list[dict[str, Any]]:
        outcome = call(command.main, capsys, *words, "--weights", weights, "--backend", "torch", "--output", "out")
        assert (outcome.code, outcome.err) == (0, "")
        return records()

    return run


def records() -> list[dict[str, Any]]:
    path = Path("out/detections.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_frame_keeps_its_time(stride: int, detect: Any) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * len(MILLISECONDS), milliseconds=MILLISECONDS)
    lines = detect("clip.mp4", "--vid-stride", stride)
    wanted = [milliseconds / 1000 for milliseconds in MILLISECONDS[::stride]]
    assert [line["time"] for line in lines] == pytest.approx(wanted, abs=1e-6)
    assert [line["frame"] for line in lines] == list(range(0, len(MILLISECONDS), stride))
    assert frame_times(Path("out/clip.mp4")) == pytest.approx(wanted, abs=1e-4)
    assert top_boxes(Path("out/clip.mp4")).index(b"moov") < top_boxes(Path("out/clip.mp4")).index(b"mdat")


def test_sound_is_kept(detect: Any) -> None:
    write_sound(Path("clip.mp4"), "aac", 1.0)
    detect("clip.mp4")
    with av.open("out/clip.mp4") as container:
        (audio,) = container.streams.audio
        assert sum(frame.samples for frame in container.decode(audio)) == pytest.approx(44_100, rel=0.1)


def test_turned_videos_are_seen_and_written_upright(detect: Any) -> None:
    write_video(Path("clip.mp4"), [quarters(RED, height=64, width=128)] * 3, rotation=90)
    lines = detect("clip.mp4", "--media", "all", "--resize", "stretch")
    assert {(line["width"], line["height"]) for line in lines} == {(64, 128)}
    with av.open("out/clip.mp4") as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert {frame.shape for frame in frames} == {(128, 64, 3)}
    # Turned to the left, the red quarter at the top left comes to lie at the bottom left.
    box = lines[0]["detections"][0]["box"]
    assert box == pytest.approx([0, 64, 32, 128], abs=1)


def test_odd_sizes_keep_their_boxes(detect: Any) -> None:
    write_video(Path("clip.mkv"), [quarters(GREEN, height=63, width=95)] * 3, codec="ffv1")
    lines = detect("clip.mkv")
    assert {(line["width"], line["height"]) for line in lines} == {(95, 63)}
    with av.open("out/clip.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (96, 64, "yuv420p")


def start_detect(video: str, graph: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "detect.py"), video, "--weights", str(graph), "--backend", "onnx"]
    return subprocess.Popen(
        [*command, "--output", "out"], stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_a_killed_run_leaves_whole_lines_and_a_playable_video(tiny_graph: Path) -> None:
    write_video(Path("clip.mp4"), [quarters(RED)] * 1500, codec="mpeg4")
    process = start_detect("clip.mp4", tiny_graph)
    end = time.monotonic() + 120
    while len(records()) < 100:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = records()
    times = frame_times(Path("out/clip.mp4"))
    # What is lost: one fragment of a second, the encoder's lookahead, and what waited for it.
    assert len(lines) - 40 < len(times) <= len(lines) < 1500
    assert times == pytest.approx([line["time"] for line in lines[: len(times)]], abs=1e-3)


def print_peaks(weights: Path, *videos: str) -> int:
    """Bytes that a process took at its most until the end of each run; with PyTorch, which is less sparing."""
    for video in videos:
        assert command.main([video, "--weights", str(weights), "--backend", "torch", "--output", video + ".out"]) == 0
        print(*(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")))
    return 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no /proc")
def test_memory_does_not_grow_with_the_length_of_a_video(weights: Path, in_own_folder: Path) -> None:
    shade = np.arange(320, dtype=np.uint16)[None, :, None] // 2 + np.zeros((240, 1, 3), np.uint16)
    moving = [np.roll(shade.astype(np.uint8), 10 * step, axis=1) for step in range(32)]
    for name, count in (("short.mp4", 50), ("long.mp4", 350)):
        write_video(Path(name), [moving[index % 32] for index in range(count)], codec="mpeg4")
    # 300 frames more of 230 kB would take 69 MB; lines and packets of them, had they been kept, some 1 MB.
    done = run_ranks(print_peaks, in_own_folder, 1, weights, "short.mp4", "long.mp4")
    assert done.code == 0, done.output
    short, long = (1024 * int(line.split()[1]) for line in done.output.splitlines() if line.startswith("VmHWM:"))
    assert long - short < 30_000_000
