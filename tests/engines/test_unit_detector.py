"""Part files of units, compared with ``detect.py`` without an engine."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from tests.commands import call
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn.cli import detect as command
from yolofpn.engines.earlier_run import resume_run, start_run
from yolofpn.engines.job import Job
from yolofpn.engines.listing import list_images
from yolofpn.engines.unit_detector import UnitDetector, UnitReport
from yolofpn.engines.units import DoneUnits, make_units, undone
from yolofpn.engines.weights_files import pack_weights
from yolofpn.errors import UserError
from yolofpn.inference.load_detector import load_for_inference
from yolofpn.inference.predictor_options import PredictorOptions

IMAGES = 7


@pytest.fixture(autouse=True)
def files(in_own_folder: Path) -> None:
    """Seven images of two sizes, one of them damaged, an animation, and a tar of the images with labels beside."""
    Path("in").mkdir()
    Path("out").mkdir()
    for index in range(IMAGES):
        image = quarters(RED, *[GREEN] * (index % 4), height=64 + 64 * (index % 2), width=192)
        cv2.imwrite(f"in/{index}.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    Path("in/3.jpg").write_bytes(Path("in/3.jpg").read_bytes()[:200])
    with tarfile.open("shard.tar", "w") as tar:
        for path in sorted(Path("in").iterdir()):
            tar.add(path, path.name)
            Path("label.txt").write_text("x")
            tar.add("label.txt", f"{path.stem}.cls")


def job(form: str = "jsonl", *sources: str) -> Job:
    options = PredictorOptions(backend="torch")
    return Job(sources or ("in",), None, ".", str(Path("out").absolute()), form, 4, 3, options)


def run(job: Job, weights: Path, done: DoneUnits | None = None) -> list[UnitReport]:
    """What the workers of an engine do, in this process."""
    detector = UnitDetector(
        load_for_inference(weights), job.options, batch_size=job.batch_size, output=job.output, form=job.form
    )
    units = undone(make_units(list_images(job.sources), job.part_size), done or DoneUnits())
    return [detector.run(unit) for unit in units]


def lines() -> list[str]:
    return [line for path in sorted(Path("out").glob("part-*")) for line in path.read_text().splitlines()]


def good(found: list[str]) -> list[str]:
    return [line for line in found if "error" not in json.loads(line)]


def without_key(line: str) -> str:
    return json.dumps({name: value for name, value in json.loads(line).items() if name != "key"}, ensure_ascii=False)


def test_the_lines_are_those_of_a_plain_run(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--weights", weights, "--backend", "torch", "--output", "plain", "--media", "none")
    assert call(command.main, capsys, "in", *words).code == 1
    plain = Path("plain/detections.jsonl").read_text().splitlines()
    reports = run(job(), weights)
    keys = [json.loads(line).pop("key") for line in lines()]
    assert [without_key(line) for line in good(lines())] == plain and len(plain) == IMAGES - 1
    assert len(set(keys)) == IMAGES and {len(key) for key in keys} == {32}
    bad = json.loads(lines()[3])
    assert bad["source"] == "in/3.jpg" and bad["error"] and bad["detections"] == []
    assert [(report.images, report.failed) for report in reports] == [(3, 0), (2, 1), (1, 0)]
    assert "in/3.jpg" in reports[1].messages[0]


def test_a_tar_has_the_rows_of_its_images(weights: Path) -> None:
    run(job(), weights)
    of_files = lines()
    for path in Path("out").iterdir():
        path.unlink()
    run(job("jsonl", "shard.tar"), weights)
    plain = [without_key(line) for line in good(of_files)]
    assert [without_key(line.replace("shard.tar/", "in/")) for line in good(lines())] == plain
    assert len(lines()) == IMAGES


def test_failed_images_are_tried_again(weights: Path) -> None:
    start_run(job(), "digest")
    run(job(), weights)
    before = lines()
    Path("in/3.jpg").write_bytes(Path("in/5.jpg").read_bytes())
    done = resume_run(job(), "digest")
    reports = run(job(), weights, done)
    assert [(report.images, report.failed) for report in reports] == [(1, 0)]
    after = lines()
    assert json.loads(after[3])["detections"] == json.loads(before[5])["detections"]
    assert after[:3] + after[4:] == before[:3] + before[4:]
    assert run(job(), weights, resume_run(job(), "digest")) == []


def test_a_tar_that_is_cut_off_is_read_again(weights: Path) -> None:
    whole = Path("shard.tar").read_bytes()
    Path("shard.tar").write_bytes(whole[: len(whole) // 2])
    start_run(job("jsonl", "shard.tar"), "digest")
    (report,) = run(job("jsonl", "shard.tar"), weights)
    assert report.failed >= 1 and json.loads(lines()[-1])["source"] == "shard.tar"
    Path("shard.tar").write_bytes(whole)
    run(job("jsonl", "shard.tar"), weights, resume_run(job("jsonl", "shard.tar"), "digest"))
    assert len(lines()) == IMAGES == len({json.loads(line)["source"] for line in lines()})


def test_other_runs_are_not_resumed(weights: Path) -> None:
    with pytest.raises(UserError):
        resume_run(job(), "digest")
    start_run(job(), "digest")
    run(job(), weights)
    with pytest.raises(UserError, match="weights"):
        resume_run(job(), "other digest")
    with pytest.raises(UserError, match="names"):
        resume_run(replace(job(), names=("cat",)), "digest")
    with pytest.raises(UserError, match="category_ids"):
        resume_run(replace(job(), category_ids=(7,)), "digest")
    with pytest.raises(UserError):
        start_run(job(), "digest")
    next(Path("out").glob("part-*")).write_bytes(b'{"sour')
    with pytest.raises(UserError, match="damaged"):
        resume_run(job(), "digest")


def test_an_animation_is_a_row_with_an_error(weights: Path) -> None:
    frames = [cv2.cvtColor(quarters(colour), cv2.COLOR_BGR2RGB) for colour in (RED, GREEN)]
    import PIL.Image

    first, second = map(PIL.Image.fromarray, frames)
    first.save("in/moving.gif", save_all=True, append_images=[second])
    with tarfile.open("moving.tar", "w") as tar:
        tar.add("in/moving.gif", "moving.gif")
    reports = run(job("jsonl", "in/moving.gif", "moving.tar"), weights)
    assert [report.failed for report in reports] == [1, 1] and not good(lines())


@pytest.mark.slow
def test_weights_travel_whole(weights: Path, exported: dict[str, Path]) -> None:
    import numpy as np

    image = quarters(RED, GREEN)
    for path in (weights, exported["onnx"], exported["openvino"]):
        from yolofpn.inference.predictor import Predictor

        loaded = load_for_inference(path)
        files, contents = pack_weights(loaded)
        arrays = [np.frombuffer(content, np.uint8) for content in contents]
        opened = [files.open(arrays), files.open(arrays)]
        backend = "torch" if path == weights else "auto"
        expected = Predictor(loaded.detector, loaded.metadata, backend=backend)(image)
        for each in opened:
            found = Predictor(each.detector, each.metadata, backend=backend)(image)
            assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.scores, expected.scores)
            assert each.metadata.names == loaded.metadata.names


@pytest.mark.slow
def test_parquet_has_the_rows_in_full(weights: Path) -> None:
    pytest.importorskip("pyarrow", reason="Ray Data, which is not in dev, brings pyarrow")
    import pandas

    from yolofpn.inference.predictor import Predictor

    run(job("parquet"), weights)
    table = pandas.concat(pandas.read_parquet(path) for path in sorted(Path("out").glob("part-*.parquet")))
    columns = ["image", "width", "height", "boxes", "scores", "labels", "names", "error", "key"]
    assert list(table.columns) == columns and len(table) == IMAGES
    loaded = load_for_inference(weights)
    predictor = Predictor(loaded.detector, loaded.metadata, backend="torch")
    for row in table.to_dict("records"):
        if row["image"] == "in/3.jpg":
            assert row["error"] and not len(row["boxes"])
            continue
        found = predictor(row["image"])
        assert [list(box) for box in row["boxes"]] == found.boxes.tolist()
        assert list(row["scores"]) == found.scores.tolist() and list(row["labels"]) == found.labels.tolist()
        assert list(row["names"]) == [found.name_of(label) for label in row["labels"]]
    # The row that is tried again keeps its place.
    Path("in/3.jpg").write_bytes(Path("in/5.jpg").read_bytes())
    start = [path.name for path in sorted(Path("out").glob("part-*.parquet"))]
    failed = dict.fromkeys((name.removesuffix(".parquet") for name in start), ()) | {start[1][:-8]: (0,)}
    run(job("parquet"), weights, DoneUnits(failed))
    again = pandas.concat(pandas.read_parquet(path) for path in sorted(Path("out").glob("part-*.parquet")))
    assert list(again.image) == list(table.image) and again.error.isna().all()
