"""``benchmark.py --start``: processes are measured whole, and installed packages are counted with what they ask for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarking import start
from benchmarking.start import Candidate, Usage, installed_bytes, measure_start, run, start_candidates
from benchmarking.tables import start_table
from yolofpn.errors import UserError

BUSY = """
import time
held = bytearray(60_000_000)
held[::4096] = b"1" * len(held[::4096])
while time.process_time() < 0.15: pass
"""


@pytest.mark.slow
def test_cpu_time_and_memory_of_a_process(tmp_path: Path) -> None:
    idle = run([sys.executable, "-c", "pass"], tmp_path, tmp_path, tmp_path)
    busy = run([sys.executable, "-c", BUSY], tmp_path, tmp_path, tmp_path)
    assert 0.15 <= busy.cpu < 5 and busy.wall > 0
    assert 50_000_000 < busy.memory - idle.memory < 80_000_000
    with pytest.raises(UserError, match="no luck"):
        run([sys.executable, "-c", "raise SystemExit('no luck')"], tmp_path, tmp_path, tmp_path)


def write_project(folder: Path, dependencies: list[str], extra: list[str]) -> Path:
    folder.mkdir()
    text = f'[project]\nname = "yolofpn"\ndependencies = {dependencies}\n[project.optional-dependencies]\n'
    (folder / "pyproject.toml").write_text(text + f'more = {extra}\nall = ["yolofpn[more]"]\n')
    return folder


def test_packages_are_counted_once_with_what_they_ask_for(tmp_path: Path) -> None:
    few = write_project(tmp_path / "few", ["tqdm>=4"], ["pytest"])
    base, more, same = (installed_bytes(few, extras) for extras in ((), ("more",), ("all", "more")))
    alone = installed_bytes(write_project(tmp_path / "alone", ["pluggy"], []), ())
    assert base and more and alone and more > base + alone  # pytest asks for pluggy
    assert same == more
    assert installed_bytes(write_project(tmp_path / "none", ["no-such-package-1"], []), ()) is None


def test_the_candidates_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bool]] = []

    def noted(self: Candidate, *_: object) -> list[str]:
        calls.append((self.name, self.light))
        return ["detect"]

    monkeypatch.setattr(Candidate, "command", noted)
    monkeypatch.setattr(start, "run", lambda command, *_: Usage(float(command == ["detect"]), 1.0, 10**6))
    monkeypatch.setattr(start, "installed_bytes", lambda _checkout, extras: 500 if "train" in extras else 100)
    other = tmp_path / "other"
    (other / "yolofpn").mkdir(parents=True)
    (other / "yolofpn" / "__main__.py").touch()
    rows = measure_start(start_candidates(["b.onnx", "a.safetensors"], other), 2)
    assert calls == [("PyTorch", False), ("without PyTorch", True), (str(other), False)] * 3  # the first turn compiles
    assert [row["installed_mb"] for row in rows] == [0.0, 0.0, 0.0] and len(rows[0]["runs"]) == 2
    assert [(row["cpu_s"], row["import_s"], row["peak_mb"]) for row in rows] == [(1.0, 0.0, 1.0)] * 3
    with pytest.raises(UserError, match="clone"):
        start_candidates(["b.onnx"], tmp_path)


def test_figures_are_shown_as_shares_of_the_first() -> None:
    row = {"cpu_s": 4.0, "wall_s": 5.0, "peak_mb": 400.0, "import_s": 2.0, "installed_mb": 1000.0}
    text = start_table([{"name": "PyTorch", **row}, {"name": "light", **row, "cpu_s": 1.0, "installed_mb": None}])
    assert "1 (0.25)" in text and "400 (1.00)" in text and "| -" in text
