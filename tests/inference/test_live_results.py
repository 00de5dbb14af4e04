"""Several live sources in one run: shared passes, fair shares, failures of one that are nobody else's."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.inference.fakes import two_found
from tests.inference.live_fakes import END, FakeCamera, shade, shades_of, until
from yolofpn.errors import InputError
from yolofpn.inference.detection_report import Report
from yolofpn.inference.live_results import APART, LiveResults, open_results
from yolofpn.results import Failure, Result
from yolofpn.sinks.opened import build_sinks
from yolofpn.sources.kinds import Source, failed_source
from yolofpn.sources.live import capture as live
from yolofpn.structures import Frame, Image, Limits, WholeImage

Wholes = Sequence[WholeImage | None] | None


@pytest.fixture(autouse=True)
def short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "JOIN_SECONDS", 0.05)


class FakePredictor:
    """Finds the same two things in every image, and remembers the passes; each waits for ``gate`` if there is one."""

    slots = 1

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.passes: list[list[int]] = []
        self._gate = gate

    def start(self, images: Sequence[Image], limits: Limits | None = None, wholes: Wholes = None) -> SimpleNamespace:
        self.passes.append([int(image[0, 0, 0]) for image in images])
        if self._gate is not None:
            assert self._gate.acquire(timeout=60)
        found = [two_found() for _ in images]
        return SimpleNamespace(result=lambda: found)


class Run:
    """LiveResults over sources, with what was said."""

    def __init__(self, *sources: Source, predictor: FakePredictor | None = None) -> None:
        self.out = io.StringIO()
        self.predictor = predictor or FakePredictor()
        self.report = Report(self.out)
        self.results = LiveResults(sources, self.predictor, self.report)

    def __enter__(self) -> Any:
        return self.results

    def __exit__(self, *_: object) -> None:
        self.results.close()


def wait_for_all(results: LiveResults) -> None:
    until(lambda: all(capture.ready for _, capture in results._captures))


def test_sources_share_a_pass() -> None:
    cameras = [FakeCamera(shade(value)) for value in (10, 20, 30)]
    run = Run(*[camera.source(f"rtsp://cam/{number}") for number, camera in enumerate(cameras)])
    with run as results:
        wait_for_all(results)
        given = [next(results) for _ in range(3)]
    assert run.predictor.passes == [[10, 20, 30]]
    assert [result.source.name for result in given] == ["rtsp://cam/0", "rtsp://cam/1", "rtsp://cam/2"]


def test_every_pass_takes_the_newest_of_each_source() -> None:
    """While the network is busy a quick source delivers many frames, a slow one only one: both get their turn."""
    quick, slow = FakeCamera(shade(1)), FakeCamera(shade(101))
    gate = threading.Semaphore(0)
    run = Run(quick.source("rtsp://cam/quick"), slow.source("rtsp://cam/slow"), predictor=FakePredictor(gate))
    with run as results:
        wait_for_all(results)
        taken: list[Any] = []
        taker = threading.Thread(target=lambda: taken.extend(next(results) for _ in range(4)))
        taker.start()
        until(lambda: run.predictor.passes)
        quick.put(*[shade(value) for value in range(2, 9)])
        slow.put(shade(102))
        captures = {source.name: capture for source, capture in results._captures}
        until(lambda: captures["rtsp://cam/quick"].counters.received == 8 and captures["rtsp://cam/slow"].ready)
        gate.release(2)
        taker.join(10)
    assert run.predictor.passes == [[1, 101], [8, 102]]
    assert [result.frame.dropped for result in taken] == [0, 0, 6, 0]


def test_a_dead_source_never_stops_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    dead, good = FakeCamera(*["rtsp://cam/dead: refused"] * 3), FakeCamera()
    run = Run(dead.source("rtsp://cam/dead"), good.source("rtsp://cam/good"))
    with run as results:
        until(lambda: results._captures[0][1].failure)
        good.put(shade(1))
        assert next(results) == Failure("rtsp://cam/dead: refused")
        assert next(results).source.name == "rtsp://cam/good"
        good.put(shade(2))
        until(lambda: next(results).frame.index == 1)
        dead.put(shade(9))
        until(lambda: next(results).source.name == "rtsp://cam/dead")
    assert "rtsp://cam/dead: back after " in capsys.readouterr().err


def test_all_ended_or_failed_is_the_end() -> None:
    dead, ending = FakeCamera(*["rtsp://cam/dead: refused"] * 3), FakeCamera(shade(1), END)
    run = Run(dead.source("rtsp://cam/dead"), ending.source("rtsp://cam/ending"))
    with run as results:
        items = list(results)
    assert [item.source.name for item in items if isinstance(item, Result)] == ["rtsp://cam/ending"]
    assert [item for item in items if isinstance(item, Failure)] == [Failure("rtsp://cam/dead: refused")]


def test_stopping_wakes_whoever_waits() -> None:
    run = Run(FakeCamera().source())
    with run as results:
        taken: list[object] = []
        taker = threading.Thread(target=lambda: taken.append(results.peek()))
        taker.start()
        results.stop()
        taker.join(5)
        assert taken == [None]


@pytest.mark.slow
def test_stale_frames_repeat_what_was_found_and_reach_only_the_lines(tmp_path: Path) -> None:
    camera = FakeCamera(shade(1, 40, 60))
    run = Run(camera.source())
    sinks = build_sinks(tmp_path, formats=("csv", "crops"))
    with run as results, sinks:
        for _ in range(3):
            result = next(results)
            sinks.write(result.source, result.frame, result.detections)
            run.report.take(result)
    assert run.predictor.passes == [[1]]
    lines = [json.loads(line) for line in (tmp_path / "detections.jsonl").read_text().splitlines()]
    assert [line["stale"] for line in lines] == [False, True, True]
    assert [line["frame"] for line in lines] == [0, 0, 0]
    assert lines[0]["time"] < lines[1]["time"] < lines[2]["time"]
    assert lines[0]["clock"] == lines[2]["clock"]
    assert lines[0]["detections"] == lines[2]["detections"] != []
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 1 + len(lines[0]["detections"])
    run.report.finish(None)
    said = run.out.getvalue()
    assert "rtsp://cam/1: 1 frame received, 0 dropped, 0 reconnects, stale for 0 s\n" in said
    assert "1 frame: found 1 dog, 1 person\n" in said


def test_counters_are_in_the_summary() -> None:
    camera = FakeCamera(*shades_of(4), "rtsp://cam/1: lost")
    run = Run(camera.source())
    with run as results:
        until(lambda: camera.opened == 2)
        next(results)
        camera.put(shade(9), END)
        until(lambda: results._captures[0][1].ended or next(results, None) is None)
    run.report.finish(None)
    assert "rtsp://cam/1: 5 frames received, 3 dropped, 1 reconnect, stale for 0 s\n" in run.out.getvalue()


def image(name: str) -> Source:
    return Source(name, "image", Path(name), lambda: iter([Frame(shade(1), name)]))


def opened(sources: Iterator[Source]) -> tuple[list[str], list[str]]:
    """Names of the live sources that are opened, and what else comes out."""
    with closing(open_results(sources, FakePredictor())) as results:
        if isinstance(results, LiveResults):
            return [source.name for source, _ in results._captures], [each.message for each in results._failures]
        return [], [each.message if isinstance(each, Failure) else each.source.name for each in results]


def test_live_sources_and_files_do_not_mix() -> None:
    one, two = FakeCamera().source("rtsp://a"), FakeCamera().source("rtsp://b")
    bad, dog = failed_source("x", "x: missing"), image("dog.jpg")
    assert opened(iter([one, two])) == (["rtsp://a", "rtsp://b"], [])
    assert opened(iter([dog, bad])) == ([], ["dog.jpg", "x: missing"])
    assert opened(iter([bad, dog, one])) == ([], ["x: missing", "dog.jpg", f"rtsp://a: {APART}"])
    assert opened(iter([])) == ([], [])
    assert opened(iter([bad, one, dog, two])) == (["rtsp://a", "rtsp://b"], ["x: missing", f"dog.jpg: {APART}"])


def test_a_list_that_breaks_off_is_reported() -> None:
    def sources(*first: Source) -> Iterator[Source]:
        yield from first
        raise InputError("list: damaged")

    assert opened(sources(FakeCamera().source("rtsp://a"))) == (["rtsp://a"], ["list: damaged"])
    assert opened(sources(image("dog.jpg"))) == ([], ["dog.jpg", "list: damaged"])
    assert opened(sources()) == ([], ["list: damaged"])


def test_a_source_that_cannot_be_started_releases_those_before_it() -> None:
    camera = FakeCamera(shade(1))

    class Broken:
        def __enter__(self) -> None:
            until(lambda: camera.opened)
            raise RuntimeError("no more threads")

        def __exit__(self, *_: object) -> None: ...

    broken = Source("rtsp://b", "stream", Path("b"), lambda: iter(()), capture=lambda **_: cast("Any", Broken()))
    with pytest.raises(RuntimeError):
        LiveResults([camera.source(), broken], FakePredictor())
    camera.put(END)
    until(lambda: camera.closed)
    assert camera.opened == 1
