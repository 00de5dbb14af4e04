"""Without the libraries of the extra ``plots`` the package detects, trains and evaluates, and says what it skips."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.training.commands import run_ranks
from tests.training.small import write_cfg, write_images
from yolofpn.extras import is_installed, skipped_plots

MISSING = ("matplotlib", "tensorboard")
# What may import them, with the package itself: imported anew.
IMPORTING = ("yolofpn", "albumentations", "pycocotools", "torch.utils.tensorboard")


class Blocker(MetaPathFinder):
    """The libraries cannot be imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def run_without_libraries(*commands: str) -> int:
    """Commands of the package one after the other, in a process that may have imported anything."""
    for name in list(sys.modules):
        if any(name == each or name.startswith(f"{each}.") for each in MISSING + IMPORTING):
            del sys.modules[name]
    sys.meta_path.insert(0, Blocker())
    main: Callable[[list[str]], int] = importlib.import_module("yolofpn.__main__").main
    return max(main(shlex.split(command)) for command in commands)


@pytest.mark.slow
def test_commands_need_neither_matplotlib_nor_tensorboard(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", count=4)
    cfg = write_cfg(tmp_path)
    image = data.parent / "images" / "val" / "val0.png"
    commands = (
        f"train --cfg {cfg} --data {data} --weights none --epochs 1 --device cpu --output run",
        f"evaluate --weights run --data {data} --backend torch --output measured",
        f"detect {image} --weights run --backend torch --score-thresh 0 --output found",
    )
    done = run_ranks(run_without_libraries, tmp_path, 1, *commands)
    assert done.code == 0, done.output
    lines = done.output.splitlines()
    assert "plots and TensorBoard events are skipped: pip install matplotlib tensorboard (the extra 'plots')" in lines
    assert "plots are skipped: pip install matplotlib (the extra 'plots')" in lines
    run = tmp_path / "run"
    assert {path.name for path in (run / "plots").iterdir()} == {"train_batch.jpg", "val_batch.jpg"}
    assert not (run / "events").exists()
    assert len((run / "metrics.csv").read_text().splitlines()) == 2
    assert not list((tmp_path / "measured").glob("*.png"))
    annotated, plain = cv2.imread(str(tmp_path / "found" / "val0.png")), cv2.imread(str(image))
    assert annotated is not None and plain is not None and (annotated != plain).any()  # labels have their font


def test_what_is_installed_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert skipped_plots("matplotlib", "tensorboard") == []
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert not is_installed("tensorboard")
    (line,) = skipped_plots("matplotlib", "tensorboard")
    assert "TensorBoard" in line and line.split(": ")[1].startswith("pip install tensorboard (")
