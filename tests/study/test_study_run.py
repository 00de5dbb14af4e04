"""Studies of a small model, from the command to the table."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest

from studies import study_run as study_run
from studies.command import main
from studies.study_plan import Size, load_study
from studies.study_run import StudyOptions, evaluation_command, make_job, training_command
from tests.commands import call
from tests.training.small import CFG, write_images
from yolofpn.__main__ import main as yolofpn
from yolofpn.config import load_config
from yolofpn.training.checkpoint import LAST
from yolofpn.training.engine import Trainer

pytestmark = pytest.mark.slow

STUDY = """
title: Small
tables: [rpn, faster_rcnn]
overrides: ["train.epochs=9", "train.checkpoint_minutes=1"]
rows:
  pyramid: {title: pyramid, weights_of: plain, pyramid: [0.5, 1, 1.3]}
  plain: {title: plain, cfg: small.yaml, paper_row: c}
  other: {title: other, cfg: small.yaml, overrides: [model.neck.top_down=false], paper_row: d}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_images(tmp_path / "data", count=4)
    (tmp_path / "small.yaml").write_text(CFG)
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a study runs, without the time that new processes take; 'interrupted' ones end before their first step."""
    called: list[str] = []

    def run_here(command: Sequence[str], log: TextIO) -> int:
        assert command[:3] == [sys.executable, "-m", "yolofpn"]
        called.append(shlex.join(command[3:]))
        with redirect_stdout(log), redirect_stderr(log):
            return yolofpn(command[3:])

    monkeypatch.setattr(study_run, "_wait", run_here)
    for module in ("yolofpn.evaluation.evaluation_run", "yolofpn.training.training_run"):
        monkeypatch.setattr(f"{module}.write_plots", lambda *_: None)
    return called


WORDS = ["run", "study.yaml", "--data", "data/data.yaml", "--epochs", "1", "--workers", "0", "--output", "out"]


@pytest.mark.usefixtures("files")
def test_from_the_command_to_the_table(commands: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(main, capsys, *WORDS, "train.seed=5")
    assert outcome.code == 0
    assert [command.split()[0] for command in commands] == ["train", "evaluate", "train", "evaluate", "evaluate"]
    assert "--pyramid 32x32,64x64,96x96" in commands[-1]
    lines = outcome.out.splitlines()
    assert lines[0] == "row plain, seed 0: begins; out/plain/seed-0/log.txt"
    assert lines[1].startswith("row plain, seed 0: AP 0.")
    assert lines[-1] == "python -m yolofpn study compare out"
    config = load_config("out/other/seed-0/config.yaml")
    assert (config.train.epochs, config.train.checkpoint_minutes, config.train.seed) == (1, 1, 5)
    assert not config.model.neck.top_down
    results = json.loads(Path("out/pyramid/seed-0/results.json").read_text())
    assert 0 <= results["proposals"]["AR100"] <= results["proposals"]["AR1000"] <= 1
    assert not list(Path("out").glob("*/*/proposals-*.json"))

    commands.clear()
    assert call(main, capsys, *WORDS, "train.seed=5").out.count("done before") == 3
    assert commands == []
    compared = call(main, capsys, "compare", "out")
    assert compared.code == 0
    assert "| paper, (c) |  | 44.0 | 56.3 | 44.9 | 63.4 | 66.2 |" in compared.out
    assert Path("out/table.png").is_file()

    changed = call(main, capsys, *WORDS[:-2], "--output", "out", "--img-size", "96", "train.seed=5")
    assert changed.code == 2
    assert "out: holds a study with img_size None, not [96, 96]: resume with the same" in changed.err


@pytest.mark.usefixtures("files")
def test_what_was_broken_off_goes_on(
    commands: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here = study_run._wait

    def killed(command: Sequence[str], log: TextIO) -> int:
        """The process is killed when it has a checkpoint and is not finished."""
        with monkeypatch.context() as patch:
            patch.setattr("yolofpn.training.engine.Trainer.run", _stop_after_a_checkpoint)
            run_here(command, log)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study_run, "_wait", killed)
        assert call(main, capsys, *WORDS, "--rows", "plain").code == 1
    assert Path("out/plain/seed-0/last.pt").is_file()
    assert call(main, capsys, *WORDS, "--rows", "plain").code == 0
    assert [command.split()[:2] for command in commands][1:] == [
        ["train", "--resume"],
        ["evaluate", "--weights"],
    ]


def _stop_after_a_checkpoint(trainer: Trainer, close: Callable[[], None]) -> bool:
    trainer._save(LAST)
    return False


@pytest.mark.usefixtures("files")
def test_a_row_that_fails_does_not_stop_the_others(commands: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    broken = STUDY.replace("cfg: small.yaml, paper_row: c", "cfg: nowhere.yaml")
    Path("study.yaml").write_text(broken)
    outcome = call(main, capsys, *WORDS)
    assert outcome.code == 1
    assert "failed: row plain, seed 0: train ended with exit code 2:" in outcome.err
    assert "nowhere.yaml: No such file" in outcome.err
    assert "failed: row pyramid, seed 0: row plain, whose weights it takes, is not trained" in outcome.err
    assert Path("out/other/seed-0/results.json").is_file()
    assert [command.split()[0] for command in commands] == ["train", "train", "evaluate"]


def test_commands_put_the_users_wishes_last(files: Path) -> None:
    size = Size(
        "d.yaml", "w.pth", epochs=3, batch_size=4, img_size=(64, 96), device="cpu", workers=1, overrides=("x.y=1",)
    )
    options = StudyOptions(Path("study.yaml"), Path("out"), size)
    study = load_study(options.study)
    job = make_job(study, "other", 7, Path("out"))
    words = training_command(job, study, options)
    assert words is not None
    assert shlex.join(words[:13]) == (
        "train --cfg small.yaml --data d.yaml --weights w.pth --seed 7 --device cpu --output out/other/seed-7"
    )
    assert words[13:] == [
        *("train.epochs=9", "train.checkpoint_minutes=1", "model.neck.top_down=false"),
        *("train.epochs=3", "train.batch_size=4", "input.size=[64, 96]", "train.workers=1", "x.y=1"),
    ]
    job.weights.mkdir(parents=True)
    (job.weights / "config.yaml").write_text(CFG + "data: {source: /d/d.yaml, root: /r}\n")
    assert shlex.join(evaluation_command(job, size)) == (
        "evaluate --weights out/other/seed-7 --data /d/d.yaml data.root=/r --device cpu --workers 0 --backend torch "
        "--json out/other/seed-7/new-results.json --save-proposals out/other/seed-7/proposals-val.json "
        "--output out/other/seed-7/evaluation"
    )


def test_rows_and_seeds(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(study_run, "_run", lambda job, *_: ran.append(str(job)))
    assert call(main, capsys, *WORDS, "--rows", "pyramid", "--seeds", "3,0,3").code == 0
    assert ran == [f"row {name}, seed {seed}" for seed in (3, 0) for name in ("plain", "pyramid")]
    for words, message in (
        (["--rows", "x"], "--rows: there is no row 'x': the study's are pyramid, plain, other"),
        (["--seeds", "a"], "'a' is not a non-negative integer"),
        (["--rows", ","], "give at least one name"),
        (["--sedes", "1"], "did you mean --seeds?"),
    ):
        outcome = call(main, capsys, *WORDS, *words)
        assert outcome.code == 2
        assert message in outcome.err
    assert call(main, capsys).code == 2
    assert "run, compare" in call(main, capsys, "rum").err.replace("'", "")


CHANGES = {
    "a row's overrides": ("study.yaml", "top_down=false", "lateral=false"),
    "a row's other settings": ("study.yaml", "[0.5, 1, 1.3]", "[0.5, 1]"),
    "the overrides of all rows": ("study.yaml", "train.epochs=9", "train.epochs=8"),
    "a cfg": ("small.yaml", "lr: 0.02", "lr: 0.03"),
}


@pytest.mark.parametrize(("name", "old", "new"), CHANGES.values(), ids=CHANGES)
def test_a_folder_keeps_to_one_recipe(
    name: str, old: str, new: str, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_run, "_run", lambda *_: None)
    assert call(main, capsys, *WORDS).code == 0
    path = files / name
    before = path.read_text()
    path.write_text(before.replace(old, new))
    for _ in range(2):  # it does not take the change for granted the second time either
        refused = call(main, capsys, *WORDS)
        assert refused.code == 2 and refused.out == ""
        assert "out: holds row " in refused.err and "before study.yaml or its cfg was changed" in refused.err
        assert refused.err.count("\n") == 2
    path.write_text(before)
    assert call(main, capsys, *WORDS).code == 0


def test_recipes_are_compared_by_what_they_mean(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_run, "_run", lambda *_: None)
    assert call(main, capsys, *WORDS).code == 0
    study, cfg = files / "study.yaml", files / "small.yaml"
    more = "  later: {title: later, cfg: later.yaml}\n"
    study.write_text(f"# why\n{STUDY.replace('title: plain,', 'title: Simple,')}{more}")
    cfg.write_text(f"# small\n{CFG.replace('lr: 0.02', 'lr: 2.0e-2')}")
    assert call(main, capsys, *WORDS).code == 0  # a new row, whose cfg is not there yet
    (files / "later.yaml").write_text(CFG)
    assert call(main, capsys, *WORDS).code == 0
    (files / "later.yaml").write_text(CFG.replace("lr: 0.02", "lr: 0.03"))
    assert "holds row later" in call(main, capsys, *WORDS).err

    note = files / "out" / "study.json"  # as it was before recipes were noted
    note.write_text(json.dumps({key: value for key, value in json.loads(note.read_text()).items() if key != "recipes"}))
    assert call(main, capsys, *WORDS).code == 0


def test_a_process_that_fails_is_heard(files: Path) -> None:
    with (files / "log").open("w") as log:
        code = study_run._wait([sys.executable, "-c", "import os, sys; print(os.getpgid(0)); sys.exit(3)"], log)
    assert code == 3
    assert int((files / "log").read_text()) != os.getpgid(0)  # Ctrl-C on the terminal does not reach it
