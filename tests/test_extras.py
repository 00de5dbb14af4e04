"""Without the libraries of the extra ``plots`` the package detects, trains and evaluates, and says what it skips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.training.small import write_cfg, write_images
from yolofpn.extras import is_installed, skipped_plots

# Runs each line of standard input as a command of the package, where the libraries cannot be imported.
PROGRAM = """
import shlex, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from yolofpn.__main__ import main
for line in sys.stdin:
    code = main(shlex.split(line))
    assert code == 0, (line, code)
"""


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
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(commands),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
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
