"""``detect.py`` with weights and options that are wrong or do not fit: exit 2, the reason, and nothing left behind."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands import Outcome, call
from tests.tiny_detector import CFG, write_tiny
from yolofpn.cli import detect as command

pytestmark = pytest.mark.usefixtures("good_image")


def detect(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    return call(command.main, capsys, *words)


def nan_weights(path: Path) -> None:
    numbers = np.fromfile(path, np.float32)
    numbers[-3:] = np.nan
    numbers.tofile(path)


BAD_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such weights file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("<html>Not found</html>"), "is a text, not Darknet weights"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "holds 128 bytes, this network needs 132"),
    "too long": (
        lambda path: path.write_bytes(path.read_bytes() + bytes(4)),
        "holds 136 bytes, this network needs 132",
    ),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:10]), "not even the header"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "holds code that would run when read"),
    "torch file": (lambda path: torch.save({"model": torch.zeros(1)}, path), "is not a checkpoint of yolofpn"),
    "damaged": (nan_weights, "the weights are damaged"),
}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_bad_weights_are_exit_2(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = BAD_WEIGHTS[kind]
    path = write_tiny(tmp_path / "weights", "x")
    make(path)
    outcome = detect(capsys, "good.png", "--weights", path)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") <= 2
    assert not Path("runs").exists()


def change_cfg(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "x.cfg").write_text(text)


BAD_COMPANIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder instead of weights": (lambda folder: (folder / "x.weights").mkdir(), "is not a run folder"),
    "another cfg": (change_cfg(CFG.replace("filters=7", "filters=14").replace("num=1", "num=2").replace(
        "anchors=32,32", "anchors=32,32,9,9").replace("mask=0", "mask=0,1")), "or for another cfg"),
    "unknown key": (change_cfg(CFG.replace("stride=", "strides=")), "line 8: "),
    "unknown section": (change_cfg(CFG.replace("[yolo]", "[yoloo]")), "did you mean [yolo]?"),
    "no cfg": (lambda folder: (folder / "x.cfg").unlink(), "give it with --darknet-cfg"),
    "too few names": (lambda folder: (folder / "x.names").write_text("a\n"), "holds 1 names"),
    "too many names": (lambda folder: (folder / "x.names").write_text("a\nb\nc\n"), "holds 3 names"),
    "empty names": (lambda folder: (folder / "x.names").write_text(""), "holds no class names"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_COMPANIONS)
def test_what_belongs_to_weights_must_fit_them(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = BAD_COMPANIONS[kind]
    folder = tmp_path / "weights"
    path = write_tiny(folder, "x")
    if kind.startswith("a folder"):
        path.unlink()
    make(folder)
    outcome = detect(capsys, "good.png", "--weights", path)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") <= 2
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--img-size", "100"], "image size 100x100 is not a multiple of 32, the network's stride: try 96x96"),
        (
            ["--classes", "blue"],
            "no class 'blue' among the 2 classes of the weights: choose from red, potted plant",
        ),
        (["--classes", "0", "2"], "no class '2'"),
        (["--device", "cuda:42"], "device 'cuda:42' is not available"),
        (["--darknet-cfg", "missing.cfg"], "missing.cfg: No such file"),
        (["--names", "missing.names"], "missing.names: No such file"),
        (["--output", "-", "--format", "coco"], "format 'coco' needs a folder"),
    ],
)
def test_options_that_do_not_fit_are_exit_2(
    words: Sequence[str], message: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = detect(capsys, "good.png", "--weights", weights, *words)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert message in outcome.err.splitlines()[-1]
    assert not Path("runs").exists()
