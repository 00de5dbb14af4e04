"""``benchmark.py --throughput``: what runs report becomes rates, shares of the network alone, and costs of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarking import throughput
from benchmarking.start import ROOT, Usage
from benchmarking.tables import throughput_table
from benchmarking.throughput import measure_throughput
from yolofpn.errors import UserError
from yolofpn.runtimes.backend import Wait


class Runs:
    """In place of processes: the network alone has 50 images per second, this clone 40, another one 20."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.count = "1,000 images and 200 frames"

    def __call__(self, command: Sequence[str], clone: Path, folder: Path, compiled: Path) -> tuple[Usage, str]:
        assert folder.is_relative_to(compiled)
        if "network_fps" in command[-1]:
            self.calls.append("network")
            return Usage(1.0, 1.0, 1), "a note\n50.0\n"
        self.calls.append("own" if clone == ROOT else "other")
        fps = 40.0 if clone == ROOT else 20.0
        lines = f"{self.count}: found 3 person\n80.5 FPS network, {fps} FPS end to end\nresults: x\n"
        return Usage(12.0, 30.0, 200_000_000), lines


def test_clones_and_the_network_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    monkeypatch.setattr(throughput, "run_and_read", runs)
    other = tmp_path / "other"
    (other / "yolofpn").mkdir(parents=True)
    (other / "yolofpn" / "__main__.py").touch()
    rows = measure_throughput(["a.onnx"], ["images"], other, 2)
    assert runs.calls == ["network", "own", "other"] * 3  # the first turn fills caches
    assert [row["share_of_network"] for row in rows] == [0.8, 0.4]
    assert rows[0]["images"] == 1200 and rows[0]["cpu_ms_per_image"] == 10 and rows[0]["peak_mb"] == 200
    assert rows[0]["rounds"] == {"network_fps": [50.0] * 2, "end_to_end_fps": [40.0] * 2}
    assert "80%" in throughput_table(rows).replace(" ", "") and "1,200" in throughput_table(rows)


def test_what_is_no_clone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "run_and_read", lambda *_: (Usage(1.0, 1.0, 1), "2.0\n"))
    with pytest.raises(UserError, match="speed"):
        measure_throughput([], ["images"], None, 1)
    with pytest.raises(UserError, match="clone"):
        measure_throughput([], ["images"], tmp_path, 1)


def test_as_many_passes_are_in_flight_as_there_are_slots() -> None:
    events: list[str] = []

    def start() -> Wait:
        events.append("start")
        return lambda: events.append("wait") or {}  # type: ignore[func-returns-value]

    assert throughput._passes(start, 2, lambda count: count >= 2) == 3
    assert events == ["start", "start", "wait", "start", "wait", "wait"]
