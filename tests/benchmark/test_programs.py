"""``benchmark.py --programs``: what is computed from the runs of programs, and how their files are read."""

from __future__ import annotations

import json
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarking import programs, start
from benchmarking.command import main
from benchmarking.opencv_program import RESULTS
from benchmarking.programs import Program, ProgramRow, cut, measure_ap, read_darknet
from benchmarking.start import Usage
from benchmarking.tables import programs_table
from tests.commands import call
from tests.evaluation.squares import write_darknet_finder
from tests.evaluation.test_evaluation_run import write_scene
from yolofpn.config import Metadata
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.errors import UserError
from yolofpn.weights import load_weights


def test_a_further_image_is_what_it_adds_to_the_first() -> None:
    program = Program("a", lambda *_: [], lambda _: {}, 3_000_000)
    row = ProgramRow(program, images=5, frames=11, ap={"AP": 0.5, "AP50": 0.75})
    row.one = [Usage(cpu=1.0, wall=2.0, memory=10**6), Usage(cpu=1.0, wall=4.0, memory=10**6)]
    row.all = [Usage(cpu=3.0, wall=5.0, memory=7 * 10**6)]
    row.video = [Usage(cpu=2.0, wall=8.0, memory=9 * 10**6)]
    report = row.to_json()
    assert report["start_s"] == 3.0 and report["start_cpu_s"] == 1.0
    assert (report["image_ms"], report["image_cpu_ms"]) == (500.0, 500.0)  # four more images, two seconds
    assert (report["video_fps"], report["video_cpu_ms"]) == (2.0, 100.0)  # ten more frames, five seconds
    assert (report["peak_mb"], report["installed_mb"]) == (9.0, 3.0)
    row.video = []
    blind = row.to_json()
    assert (blind["video_fps"], blind["peak_mb"]) == (None, 7.0)
    lines = programs_table([report, blind]).splitlines()
    assert "5 images" in lines[0] and "11 frames" in lines[0] and lines[-2].count(" 2.0 ") == 1


@pytest.fixture
def data(tmp_path: Path) -> DetectionDataset:
    return open_data(str(write_scene(tmp_path / "data"))).load("val")


@pytest.fixture
def metadata(tmp_path: Path) -> Metadata:
    return load_weights(write_darknet_finder(tmp_path)).metadata


def telling(found: dict[str, Any], *, relative: bool = False) -> Program:
    """A program that always finds this."""

    def command(_sources: Sequence[str], output: Path, score_thresh: float | None) -> list[str]:
        assert score_thresh == programs.AP_SCORE_THRESH
        return ["/bin/sh", "-c", 'mkdir "$0" && printf %s "$1" > "$0/x"', str(output), json.dumps(found)]

    return Program("teller", command, lambda output: json.loads((output / "x").read_text()), None, relative=relative)


def truth(data: DetectionDataset, names: Sequence[str], *, relative: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, path in enumerate(data.paths):
        height, width = data.sizes[index].tolist()
        target = data.target(index)
        rows = found.setdefault(path, [])
        for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
            by = (width, height, width, height) if relative else (1, 1, 1, 1)
            box = [value / share for value, share in zip((x1, y1, x2, y2), by, strict=True)]
            rows.append([*box, 0.9, [name.lower() for name in names].index(data.names[label].lower())])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("relative", [False, True])
def test_ap_of_all_objects_and_of_half_the_images(
    data: DetectionDataset, metadata: Metadata, tmp_path: Path, relative: bool
) -> None:
    found = truth(data, metadata.names, relative=relative)
    paths = list(data.paths)
    assert measure_ap(telling(found, relative=relative), paths, data, metadata, tmp_path)["AP"] == pytest.approx(1.0)
    fewer = {path: rows if index % 2 else [] for index, (path, rows) in enumerate(found.items())}
    assert 0 < measure_ap(telling(fewer, relative=relative), paths, data, metadata, tmp_path)["AP"] < 0.9
    with pytest.raises(UserError, match="says nothing of"):
        measure_ap(telling({}), paths, data, metadata, tmp_path)


def test_darknets_json(tmp_path: Path) -> None:
    corners = {"center_x": 0.5, "center_y": 0.25, "width": 0.5, "height": 0.25}
    objects = [{"class_id": 3, "name": "x", "relative_coordinates": corners, "confidence": 0.75}]
    (tmp_path / RESULTS).write_text(json.dumps([{"frame_id": 1, "filename": "a.jpg", "objects": objects}]))
    assert read_darknet(tmp_path) == {"a.jpg": [(0.25, 0.125, 0.75, 0.375, 0.75, 3)]}


def test_the_first_frames_of_a_video(tiny_video: Path, tmp_path: Path) -> None:
    assert cut(tiny_video, tmp_path / "few.mp4", 5) == 5
    assert cut(tiny_video, tmp_path / "all.mp4", 500) == 12
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"no\.mp4"):
        cut(tmp_path / "no.mp4", tmp_path / "none.mp4", 5)


# As ``darknet detector test ... -out FILE < LIST`` of one box in the middle of each image.
DARKNET = """#!{python}
import json, sys
box = {{"center_x": .5, "center_y": .5, "width": .5, "height": .5}}
found = [{{"class_id": 0, "relative_coordinates": box, "confidence": .5}}]
images = [{{"filename": line.strip(), "objects": found}} for line in sys.stdin]
open(sys.argv[sys.argv.index("-out") + 1], "w").write(json.dumps(images))
"""


def run_here(command: Sequence[str], *where: Path) -> Usage:
    """The project's own program in this process, which has imported PyTorch; the others as they are."""
    if "yolofpn" not in command[2]:
        return start.run(command, *where)
    begin, cpu = time.perf_counter(), time.process_time()
    with pytest.raises(SystemExit) as end:
        exec(command[2], {})
    assert end.value.code == 0
    return Usage(time.process_time() - cpu, time.perf_counter() - begin, 10**6)


@pytest.mark.slow
def test_programs_side_by_side(
    data: DetectionDataset, tiny_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    environment = start.environment
    monkeypatch.setattr(programs, "RUNTIMES", ())
    monkeypatch.setattr(programs, "run", run_here)
    # PyTorch has thousands of files to count.
    sizes = start.installed_bytes
    monkeypatch.setattr(programs, "installed_bytes", lambda root, extras, *more: sizes(root, (), *more))
    # Modules that have been compiled before are not compiled once more.
    monkeypatch.setattr(start, "environment", lambda *words: environment(*words) | {"PYTHONPYCACHEPREFIX": ""})
    darknet = tmp_path / "darknet"
    darknet.write_text(DARKNET.format(python=sys.executable))
    darknet.chmod(darknet.stat().st_mode | stat.S_IEXEC)
    weights, report = write_darknet_finder(tmp_path), tmp_path / "report.json"
    words = ["--programs", "--weights", weights, "--source", tiny_video, "--data", tmp_path / "data" / "data.yaml"]
    assert call(main, capsys, *words[:-2]).code == 2
    outcome = call(main, capsys, *words, "--darknet", darknet, "--rounds", 1, "--json", report)
    assert outcome.code == 0, outcome.err
    own, opencv, other = json.loads(report.read_text())["programs"]
    assert [row["name"] for row in (own, opencv, other)] == ["yolofpn, PyTorch", "OpenCV DNN", "Darknet"]
    assert own["AP"] == pytest.approx(opencv["AP"], abs=0.1) and own["AP"] > 0.2 and other["AP"] < own["AP"]
    # Of so short a video one run may take less than one image's, which is no speed.
    assert all(row["video_fps"] is None or row["video_fps"] > 0 for row in (own, opencv)) and other["video_fps"] is None
    assert own["installed_mb"] > opencv["installed_mb"] > 10
    assert "| yolofpn, PyTorch" in call(main, capsys, "--tables", report).out


def test_a_speed_that_runs_do_not_show_is_left_out() -> None:
    row = ProgramRow(Program("made", lambda *_: [], lambda _: {}, None), images=1, frames=11)
    row.one, row.all, row.video = [Usage(2.0, 2.0, 10)], [Usage(2.0, 2.0, 10)], [Usage(1.5, 3.0, 10)]
    told = row.to_json()
    assert told["image_ms"] is None and told["image_cpu_ms"] is None
    assert told["video_cpu_ms"] is None and told["video_fps"] == pytest.approx(10)  # ten more frames in a second
