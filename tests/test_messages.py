"""The commonest messages in full: what the commands of ``messages.txt`` print on standard error, and their exit codes.

Wordings are pinned here alone; other tests look at an error's type, its attributes and at most one key word. After a
change of words ``python -m tests.test_messages`` writes the file anew; read what it changed.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from pathlib import Path

import cv2
import pytest

from tests.tiny_detector import RED, quarters, write_tiny
from tests.training.small import CFG, write_images
from yolofpn.__main__ import main

MESSAGES = Path(__file__).with_name("messages.txt")


def read_messages() -> dict[str, str]:
    """What each command prints: ``$ COMMAND``, then ``[EXIT CODE] MESSAGE``."""
    blocks = MESSAGES.read_text(encoding="utf-8").removeprefix("$ ").split("\n$ ")
    return {command: said.rstrip("\n") for command, _, said in (block.partition("\n") for block in blocks)}


def write_files(folder: Path) -> None:
    """Good and bad files for the commands."""
    write_tiny(folder)
    write_images(folder / "data", count=2)
    described = write_images(folder / "three", count=1)
    described.write_text(described.read_text().replace("[bright, dark]", "[cat, dog, cow]"))
    write_images(folder / "unlabelled", count=1)
    for path in (folder / "unlabelled" / "labels").rglob("*.txt"):
        path.unlink()
    cv2.imwrite(str(folder / "good.png"), quarters(RED))
    (folder / "broken.png").write_text("no image")
    (folder / "list.txt").write_text("good.png\nmissing.png\n")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "lonely.weights").write_bytes((folder / "tiny.weights").read_bytes())
    (folder / "short.weights").write_bytes((folder / "tiny.weights").read_bytes()[:-8])
    (folder / "short.cfg").write_text((folder / "tiny.cfg").read_text())
    (folder / "bad.cfg").write_text("[net]\nwidth=64\nheight=64\n[convolutional]\nsize=big\n")
    (folder / "one.names").write_text("thing\n")
    (folder / "broken.safetensors").write_text("no tensors")
    (folder / "small.yaml").write_text(CFG)


def said_by(command: str) -> str:
    """Exit code and standard error of a command in the working folder, whose path is omitted."""
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        try:
            code: object = main(shlex.split(command))
        except SystemExit as end:
            code = end.code
    return f"[{code}] {said.getvalue()}".replace(f"{Path.cwd()}{os.sep}", "").rstrip("\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages")
    write_files(folder)
    return folder


@pytest.mark.parametrize("command", read_messages())
def test_message(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert said_by(command) == read_messages()[command]


def rewrite() -> None:
    """Write ``messages.txt`` with what its commands print now."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["YOLOFPN_CACHE"] = f"{name}/cache"
        folder = Path(name).resolve() / "files"
        write_files(folder)
        os.chdir(folder)
        MESSAGES.write_text("".join(f"$ {command}\n{said_by(command)}\n" for command in read_messages()), "utf-8")


if __name__ == "__main__":
    rewrite()
