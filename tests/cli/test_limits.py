"""Small files that say to be large, through the commands that read them: refused with the line, within limits."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from tests.commands import call
from tests.fuzzing import limited, prepare
from yolofpn.cli import check, convert, detect, summary
from yolofpn.tensor_files import read_safetensors, write_safetensors

NESTED_ALIASES = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
YOLO = "format: yolo\nsplits: {train: {images: images, annotations: labels}}\n"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits of memory and time are those of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with labels, and Darknet weights."""
    prepare(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path: .\ntrain: images\n\nnc: 1000000000\n", "data.yaml:4: 1,000,000,000 classes"),
        (YOLO + "names: [a]\n" + NESTED_ALIASES, "data.yaml: line 10: "),
        (YOLO + "names: " + "[" * 5000, "data.yaml: line 3: "),
        (YOLO + 'names: ["a\\ud800"]\n', "class 0"),
    ],
)
def test_a_data_set_that_says_to_be_large(
    folder: Path, text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data.yaml").write_text(text)
    with limited():
        refused = call(check.main, capsys, folder / "data.yaml")
    assert refused.code == 2
    assert line in refused.err


def test_a_label_with_a_huge_class_is_dropped_with_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data.yaml").write_text(YOLO)
    (folder / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n1000000000 .5 .5 .2 .2\n1 .1 .1 .1 .1\n")
    with limited():
        found = call(check.main, capsys, folder / "data.yaml", "--split", "train")
    assert found.code == 1
    assert "line 2: class" in found.out and "100,000" in found.out
    assert "2 boxes" in found.out


def converted(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """``tiny.weights`` as safetensors: the file, its tensors and its metadata."""
    path = folder / "w.safetensors"
    assert call(convert.main, capsys, folder / "tiny.weights", path).code == 0
    return path, *read_safetensors(path)


@pytest.mark.parametrize("size", ["20000,20000", "1000000000,64", "1e999,64"])
@pytest.mark.parametrize("command", [summary.main, detect.main])
def test_weights_that_ask_for_a_huge_input(
    folder: Path, command: object, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tensors, metadata = converted(folder, capsys)
    changed = metadata["yolofpn"].replace('"size": [64, 64]', f'"size": [{size}]')
    assert changed != metadata["yolofpn"]
    write_safetensors(path, tensors, {"yolofpn": changed})
    words = [path] if command is summary.main else [folder / "images" / "a.png", "--weights", path]
    with limited(), chdir(folder):
        refused = call(command, capsys, *words)  # type: ignore[arg-type]
    assert refused.code == 2
    assert "input.size.0" in refused.err


def test_a_card_moves_no_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, path = folder / "card.md", folder / "w.safetensors"
    card.write_text("good \x1b[2J\x9b31m weights\n")
    assert call(convert.main, capsys, folder / "tiny.weights", path, "--card", card).code == 0
    shown = call(summary.main, capsys, path)
    assert r"good \u001b[2J\u009b31m weights" in shown.out
    with safe_open(path, "pt") as file:
        assert "good" in file.metadata()["yolofpn"]


@pytest.mark.parametrize(
    ("key", "text"), [("card", "\\ud800"), ("darknet_cfg", "[net]\\udcff"), ("names.0", "\\udfff")]
)
def test_metadata_that_could_not_be_saved_again_is_refused(
    folder: Path, key: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tensors, metadata = converted(folder, capsys)
    tree = json.loads(metadata["yolofpn"])
    if key == "names.0":
        tree["names"][0] = "TEXT"
    else:
        tree[key] = "TEXT"
    write_safetensors(path, tensors, {"yolofpn": json.dumps(tree).replace("TEXT", text)})
    for command, words in ((summary.main, [path]), (convert.main, [path, folder / "again.safetensors"])):
        refused = call(command, capsys, *words)
        assert refused.code == 2
        assert f"{path}: {key.split('.')[0]}" in refused.err and "UTF-8" in refused.err
        assert refused.err.count("\n") == 1
    assert not (folder / "again.safetensors").exists()


@pytest.mark.slow
def test_commands_run_with_closed_streams(folder: Path, tiny_graph: Path) -> None:
    """As a service has it, or the shell's ``<&- >&- 2>&-``."""
    words = ["images/a.png", "--weights", str(tiny_graph), "--media", "none", "--output", "out"]
    program = "import sys; from yolofpn.cli.detect import main; raise SystemExit(main(sys.argv[1:]))"
    shell = f"exec {sys.executable} -c {shlex.quote(program)} {shlex.join(words)}"
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    assert subprocess.run(["sh", "-c", f"{shell} <&- >&- 2>&-"], cwd=folder, env=environment).returncode == 0
    assert json.loads((folder / "out" / "detections.jsonl").read_text())["source"] == "images/a.png"
    to_nobody = subprocess.run(
        ["sh", "-c", f"{shell} --output - >&-"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert to_nobody.returncode == 2
    assert "standard output: is closed" in to_nobody.stderr and "Traceback" not in to_nobody.stderr
