"""Pipes in the place of any file that a command reads, and folders nested without end: skipped or refused, at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.commands import call
from tests.fuzzing import COCO, CVAT, LABELME, VOC, prepare
from tests.training.small import write_cfg, write_images
from yolofpn.cli import check, convert, detect, evaluate, summary, train

pytestmark = [
    pytest.mark.usefixtures("in_own_folder"),
    pytest.mark.skipif(sys.platform == "win32", reason="pipes and alarms as POSIX has them"),
]
Main = Callable[[Sequence[str]], int]
PLACES = "splits: {train: {images: images, annotations: %s}}\nnames: [cat, dog]\n"


@contextmanager
def at_once() -> Iterator[None]:
    """Nothing waits for a pipe: that would end with an error."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("waits for a pipe")

    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def pipe(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).unlink(missing_ok=True)
    os.mkfifo(name)


@pytest.mark.parametrize(
    ("place", "form", "annotations", "content"),
    [
        ("labels/a.txt", "yolo", "labels", b"0 .5 .5 .2 .2\n"),
        ("labels/a.xml", "voc", "labels", VOC),
        ("labels/a.json", "labelme", "labels", LABELME),
        ("labels/a.json", "coco", "labels/a.json", COCO),
        ("labels/a.xml", "cvat", "labels/a.xml", CVAT),
    ],
)
@pytest.mark.parametrize("is_image", [False, True])
def test_a_pipe_in_a_data_set(
    place: str, form: str, annotations: str, content: bytes, is_image: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(Path())
    Path(place).write_bytes(content)
    Path("data.yaml").write_text(f"format: {form}\n" + PLACES % annotations)
    Path("images/b.png").write_bytes(Path("images/a.png").read_bytes())
    pipe("images/a.png" if is_image else place)
    with at_once():
        found = call(check.main, capsys, "data.yaml", "--split", "train")
    assert found.code in (1, 2)
    assert "is a pipe" in found.out + found.err
    assert ("a.png" if is_image else place) in found.out + found.err


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "list.txt", "one.data"])
def test_a_pipe_that_describes_a_data_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(Path())
    if name == "list.txt":
        Path("data.yaml").write_text("format: yolo\nsplits: {train: {images: list.txt}}\nnames: [cat, dog]\n")
    pipe(name)
    with at_once():
        refused = call(check.main, capsys, "one.data" if name == "one.data" else ".", "--split", "train")
    if name in ("list.txt", "one.data"):
        assert refused.code == 2
        assert f"{name}: is a pipe" in refused.err
    else:  # of a folder only files are looked at
        assert refused.code in (0, 1)


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (detect.main, ("images/a.png", "--weights", "x.safetensors")),
        (detect.main, ("images/a.png", "--weights", "x.onnx")),
        (detect.main, ("images/a.png", "--weights", "tiny.weights", "--names", "x.names")),
        (detect.main, ("images/a.png", "--weights", "tiny.weights", "--darknet-cfg", "x.cfg")),
        (convert.main, ("tiny.weights", "out.safetensors", "--card", "x.md")),
        (convert.main, ("x.weights", "out.safetensors")),
        (summary.main, ("x.yaml",)),
        (summary.main, ("x.pt",)),
        (train.main, ("--cfg", "x.yaml", "--data", "data.yaml", "--dry-run")),
        (train.main, ("--cfg", "cfg.yaml", "--data", "x.yaml", "--dry-run")),
        (train.main, ("--cfg", "cfg.yaml", "--data", "data.yaml", "--weights", "x.pth", "--dry-run")),
        (evaluate.main, ("--weights", "tiny.weights", "--data", "x.yaml")),
    ],
)
def test_a_pipe_on_a_command_line(main: Main, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    prepare(Path())
    Path("data.yaml").write_text("format: yolo\n" + PLACES % "labels")
    write_cfg(Path()).replace("cfg.yaml")
    (name,) = (word for word in words if word.startswith("x."))
    pipe(name)
    with at_once():
        refused = call(main, capsys, *words)
    assert refused.code == 2
    assert name in refused.err
    assert refused.err.count("\n") <= 3


def test_training_skips_a_pipe_among_its_images(capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(Path(), count=4)
    pipe("images/train/pipe.png")
    words = ("--cfg", write_cfg(Path()), "--data", data, "--dry-run", "--device", "cpu")
    with at_once():
        outcome = call(train.main, capsys, *words)
    assert outcome.code in (0, 1)
    assert "pipe.png" in outcome.out + outcome.err


@contextmanager
def nested(depth: int) -> Iterator[None]:
    """Folders ``d/d/d/...`` in the working folder while the context lasts; their paths are too long for rmtree."""
    here = os.open(".", os.O_RDONLY)
    try:
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        os.fchdir(here)
        yield
    finally:
        os.fchdir(here)
        for _ in range(depth):
            os.chdir("d")
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()
        os.close(here)


@pytest.mark.slow
def test_990_nested_folders(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(Path(), count=2)
    flags = ("--weights", weights, "--backend", "torch", "--media", "none", "--output", "out")
    with chdir("images/train"):
        deep = nested(990)
        deep.__enter__()
    try:
        detected = call(detect.main, capsys, "images", *flags)
        by_pattern = call(detect.main, capsys, "images/**/*.png", *flags)
        checked = call(check.main, capsys, data)
        guessed = call(check.main, capsys, ".")
    finally:
        with chdir("images/train"):
            deep.__exit__(None, None, None)
    for outcome in (detected, by_pattern):
        assert outcome.code == 1
        assert outcome.err.count("\n") == 1 and "nested" in outcome.err
    for refused in (checked, guessed):
        assert refused.code == 2
        assert refused.err.count("\n") == 1 and "nested" in refused.err and len(refused.err) < 400


def test_links_that_lead_back_up_are_followed_once(capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(Path(), count=2)
    Path("images/train/up").symlink_to(Path("images").absolute())
    Path("images/train/own").symlink_to("own")
    checked = call(check.main, capsys, data, "--split", "val")
    assert checked.code == 0, checked.out
    assert "5 images" in checked.out
