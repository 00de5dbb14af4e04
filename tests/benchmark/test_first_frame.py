"""The first detections of a video and of a stream: what is timed, and with which cache."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarking import first_frame
from benchmarking.first_frame import measure_first_frames
from benchmarking.start import Candidate
from benchmarking.tables import first_frame_table
from yolofpn.errors import UserError
from yolofpn.sources.resolve import resolve_sources

# Notes whether the cache is empty, then takes .2 seconds longer, prints a line, and would go on for ever on a stream.
PROGRAM = """
import os, pathlib, sys, time
cache = pathlib.Path(os.environ["YOLOFPN_CACHE"]) / "graph"
with open(os.environ["PYTHONPATH"] + "/log", "a") as log:
    print("full" if cache.exists() else "empty", file=log)
if not cache.exists():
    cache.parent.mkdir(exist_ok=True)
    cache.touch()
    time.sleep(0.2)
print("{}", flush=True)
time.sleep(60 if sys.argv[1].startswith("http") else 0)
"""


class Fake(Candidate):
    def command(self, source: str | Path, output: str | Path) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(source)]


@pytest.mark.slow
def test_an_empty_cache_is_empty_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_frame, "FRAMES", 3)
    rows = measure_first_frames([Fake("a", tmp_path, None, light=False, extras=())], 2)
    assert [(row["name"], row["source"]) for row in rows] == [("a", "video"), ("a", "live")]
    for row in rows:
        rounds = row["rounds"]
        assert min(rounds["cold"]) >= 0.2 and len(rounds["warm"]) == 2
        assert [row[f"{name}_s"] for name in rounds] == pytest.approx([sum(taken) / 2 for taken in rounds.values()])
    assert (tmp_path / "log").read_text().split() == ["empty", *["empty", "full"] * 4]
    assert first_frame_table(rows).count("| a ") == 2


@pytest.mark.slow
def test_a_program_without_results_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "command", lambda *_: [sys.executable, "-c", "print('no json')"])
    with pytest.raises(UserError, match="a: no detections"):
        first_frame.first_line(Fake("a", tmp_path, None, light=False, extras=()), "x", tmp_path, tmp_path)


@pytest.mark.slow
def test_the_stream_is_one_that_detect_reads() -> None:
    frames = first_frame._frames()
    assert len(frames) == first_frame.FRAMES and {frame.shape for frame in frames} == {(*first_frame.SIZE, 3)}
    with first_frame.served(frames) as url:
        (source,) = resolve_sources([url])
        stream = source.frames()
        assert isinstance(stream, Generator)
        with closing(stream):
            frame = next(stream)
    assert frame.image.shape == frames[0].shape and abs(frame.image.astype(int) - frames[0]).mean() < 20
