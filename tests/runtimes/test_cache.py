from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from tests.runtimes.small import small_detector
from yolofpn.errors import UserError
from yolofpn.runtimes import cache
from yolofpn.runtimes.tuned import Tuned, read_tuned, write_tuned


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path))
    return tmp_path / "graphs"


def write(path: Path) -> None:
    path.write_text("graph")
    if path.suffix == ".xml":
        path.with_suffix(".bin").write_text("numbers")


def check(path: Path) -> None:
    if path.read_text() != "graph":
        raise RuntimeError("broken")


def test_a_graph_is_made_once(folder: Path) -> None:
    made: list[Path] = []

    def count(path: Path) -> None:
        made.append(path)
        write(path)

    assert not cache.has_graph("abc")
    for _ in range(2):
        assert cache.cached_graph("abc", ".xml", count, check) == folder / "abc.xml"
    assert len(made) == 1
    assert cache.has_graph("abc")
    assert sorted(path.name for path in folder.iterdir()) == ["abc.bin", "abc.sums", "abc.xml"]


def test_a_broken_graph_is_made_anew(folder: Path) -> None:
    path = cache.cached_graph("abc", ".onnx", write, check)
    path.write_text("gra")
    assert cache.cached_graph("abc", ".onnx", write, check).read_text() == "graph"


@pytest.mark.parametrize("damaged", ["abc.bin", "abc.xml", "abc.sums"])
def test_a_damaged_graph_is_made_anew(folder: Path, damaged: str) -> None:
    """Though it can be opened: a flipped bit in its numbers would only move boxes."""
    cache.cached_graph("abc", ".xml", write, lambda _: None)
    data = bytearray((folder / damaged).read_bytes())
    data[2] ^= 1
    (folder / damaged).write_bytes(data)
    cache.cached_graph("abc", ".xml", write, lambda _: None)
    assert (folder / "abc.bin").read_text() == "numbers"
    assert (folder / "abc.xml").read_text() == "graph"


def test_a_graph_that_was_written_badly_is_not_kept(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        cache.cached_graph("abc", ".xml", Path.touch, check)
    assert list(folder.iterdir()) == []


def test_what_tune_chose_is_not_forgotten(folder: Path) -> None:
    choice = Tuned(backend="openvino", precision="int8", libraries="", graphs=("chosen",))
    write_tuned("some", choice)
    assert read_tuned("some") == choice and read_tuned("other") is None
    for number, name in enumerate(["chosen", *map(str, range(cache.KEPT_GRAPHS))]):
        os.utime(cache.cached_graph(name, ".xml", write, check), (number, number))
    cache.cached_graph("new", ".onnx", write, check)
    assert cache.has_graph("chosen") and not cache.has_graph("0")
    write_tuned("some", None)
    assert read_tuned("some") is None


def test_a_conversion_that_fails_leaves_nothing(folder: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        cache.cached_graph("abc", ".xml", fail, check)
    assert list(folder.iterdir()) == []


def test_the_graphs_of_oldest_use_are_forgotten(folder: Path) -> None:
    for number in range(cache.KEPT_GRAPHS):
        os.utime(cache.cached_graph(f"{number}", ".xml", write, check), (number, number))
    cache.cached_graph("0", ".xml", write, check)  # used again
    cache.cached_graph("new", ".onnx", write, check)
    assert cache.has_graph("0") and cache.has_graph("new") and not cache.has_graph("1")
    assert not (folder / "1.bin").exists()


def test_what_a_killed_conversion_left_is_removed_after_a_day(folder: Path) -> None:
    for name, age in (("old.1", cache.ABANDONED + 60), ("running.2", 60)):
        (folder / name).mkdir(parents=True)
        (folder / name / "half.xml").write_text("half")
        os.utime(folder / name, (time.time() - age,) * 2)
    cache.cached_graph("abc", ".onnx", write, check)
    assert sorted(path.name for path in folder.iterdir()) == ["abc.onnx", "abc.sums", "running.2"]


def test_a_graph_that_another_run_removes_meanwhile_is_made_anew(folder: Path) -> None:
    path = cache.cached_graph("abc", ".onnx", write, check)
    path.unlink()
    assert cache.cached_graph("abc", ".onnx", write, check) == path
    assert path.read_text() == "graph"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("YOLOFPN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="directory"):
        cache.cached_graph("abc", ".onnx", write, check)


def test_the_machine_is_another_one_with_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    said = set()
    for threads in (1, 2):
        monkeypatch.setattr(cache, "num_threads", lambda threads=threads: threads)
        said.add(cache.machine())
    assert len(said) == 2


def test_verdicts_are_read_back_and_damaged_ones_forgotten(folder: Path) -> None:
    assert cache.read_verdict("x") is None
    cache.write_verdict("x", {"passed": True})
    assert cache.read_verdict("x") == {"passed": True}
    for text in ("{", "[1]"):
        (folder / "x.json").write_text(text)
        assert cache.read_verdict("x") is None


def test_where_nothing_can_be_written_a_verdict_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("YOLOFPN_CACHE", str(blocked))
    cache.write_verdict("x", {"passed": True})
    assert cache.read_verdict("x") is None


def test_the_fingerprint_is_that_of_the_computation() -> None:
    detector, metadata = small_detector()
    same, _ = small_detector()
    assert cache.fingerprint(detector, metadata) == cache.fingerprint(same, metadata)
    thresholds = metadata.postprocess.model_copy(update={"score_thresh": 0.5})
    assert cache.fingerprint(same, metadata.model_copy(update={"postprocess": thresholds})) == cache.fingerprint(
        detector, metadata
    )
    other_mean = metadata.model_copy(update={"input": metadata.input.model_copy(update={"mean": (0.5, 0.5, 0.5)})})
    with torch.no_grad():
        next(same.parameters()).view(-1)[0] += 1e-6
    found = {
        cache.fingerprint(detector, metadata),
        cache.fingerprint(same, metadata),
        cache.fingerprint(detector, other_mean),
    }
    assert len(found) == 3
