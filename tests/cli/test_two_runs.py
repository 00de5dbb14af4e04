"""Two runs never write into one folder: the second one is refused and touches nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.commands import call
from tests.full_disk import room_for
from tests.training.small import write_cfg, write_images
from yolofpn.cli import detect, evaluate, train
from yolofpn.config import dump_config, load_config
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluation_plots import plot_confusion
from yolofpn.files import locked_output


@pytest.mark.parametrize("command", [detect.main, evaluate.main, train.main])
def test_the_second_run_into_a_folder_is_refused(
    command: Callable[[Sequence[str]], int],
    weights: Path,
    good_image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_images(tmp_path, count=2)
    words: dict[object, list[object]] = {
        detect.main: [good_image, "--weights", weights],
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


def test_two_processes_never_hold_one_folder(tmp_path: Path) -> None:
    """The lock of a process that is killed is free at once."""
    program = (
        "import sys, time; from pathlib import Path; from yolofpn.files import locked_output\n"
        "with locked_output(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            with pytest.raises(UserError, match="another run"), locked_output(tmp_path):
                pass
        finally:
            other.kill()
        other.wait()
        with locked_output(tmp_path):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX's")
def test_a_disk_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with locked_output(tmp_path):
        pass
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert str(tmp_path) in printed and "no locks" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
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
