"""Two runs never write into one folder: the second one is refused and touches nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.doors import call
from tests.full_disk import room_for
from tests.training.small import write_cfg, write_pictures
from yolofpn.cli import detect, evaluate, train
from yolofpn.config import dump_config, load_config
from yolofpn.errors import UserError
from yolofpn.evaluation.plots import plot_confusion
from yolofpn.output_files import locked_output


@pytest.mark.parametrize("command", [detect.main, evaluate.main, train.main])
def test_the_second_run_into_a_folder_is_refused(
    command: Callable[[Sequence[str]], int],
    weights: Path,
    good_picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_pictures(tmp_path, count=2)
    words: dict[object, list[object]] = {
        detect.main: [good_picture, "--weights", weights],
        evaluate.main: ["--weights", weights, "--data", data],
        train.main: ["--cfg", write_cfg(tmp_path), "--data", data, "--dry-run"],
    }
    output = tmp_path / "out"
    output.mkdir()
    kept = [output / name for name in ("detections.jsonl", "results.json", "last.pt")]
    for path in kept:
        path.write_text("of the first run")
    with locked_output(output):
        refused = call(command, capsys, *words[command], "--device", "cpu", "--output", output)
    assert refused.code == 2
    assert f"error: {output}: another run" in refused.err
    assert {path.read_text() for path in kept} == {"of the first run"}
    assert sorted(output.iterdir()) == sorted(kept)


def test_a_lock_ends_with_its_run(tmp_path: Path) -> None:
    with locked_output(tmp_path), pytest.raises(UserError), locked_output(tmp_path):
        pass
    with locked_output(tmp_path):
        pass
    if sys.platform != "win32":
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_writers_leave_nothing_half_on_a_room_for(tmp_path: Path) -> None:
    config = load_config(write_cfg(tmp_path))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "config.yaml").write_text("of before")
    with room_for(100):
        with pytest.raises(OSError, match="config"):
            dump_config(config, folder / "config.yaml")
        with pytest.raises(OSError, match="plot"):
            plot_confusion(folder / "plot.png", np.eye(2, dtype=np.int64), ["a"])
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    assert (folder / "config.yaml").read_text() == "of before"
