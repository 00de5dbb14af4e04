"""A study whose Fast R-CNN learns from the proposals of another row's RPN."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies.command import main
from studies.study_plan import choose_rows, load_study
from studies.study_run import make_job
from tests.commands import call
from tests.study.test_study_run import commands, files  # noqa: F401
from tests.training.test_single_stages import CFG, FAST, RPN
from yolofpn.config import load_config

pytestmark = pytest.mark.slow

STUDY = """
title: Stages
tables: [rpn, fast_rcnn]
rows:
  again: {title: again, weights_of: fast, table: fast_rcnn, pyramid: [0.5, 1]}
  fast: {title: fast, cfg: fast.yaml, proposals_of: first, table: fast_rcnn, paper_row: a}
  first: {title: first, cfg: rpn.yaml, table: rpn, paper_row: c}
"""
WORDS = ["run", "stages.yaml", "--data", "data/data.yaml", "--epochs", "1", "--workers", "0", "--output", "out"]


@pytest.fixture(autouse=True)
def stages(files: Path) -> None:  # noqa: F811
    (files / "stages.yaml").write_text(STUDY)
    (files / "rpn.yaml").write_text(CFG.replace("HEAD", RPN))
    (files / "fast.yaml").write_text(CFG.replace("HEAD", FAST))


def test_proposals_come_first_and_stay(
    commands: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = call(main, capsys, *WORDS, "--rows", "fast")
    assert outcome.code == 0, outcome.err
    first, fast = Path("out/first/seed-0"), Path("out/fast/seed-0")
    wanted = ["train first", "evaluate first", "evaluate first", "train fast", "evaluate fast"]
    assert [" ".join([words.split()[0], words.split("out/")[1].split("/")[0]]) for words in commands] == wanted
    assert f"--split train --save-proposals {first}/proposals-train.json" in commands[2]
    assert f"--proposals {first}/proposals-val.json" in commands[4]
    assert {path.name for path in first.glob("*.json")} == {
        "results.json",
        "proposals-train.json",
        "proposals-val.json",
    }
    config = load_config(fast / "config.yaml")
    assert config.data is not None and config.data.proposals is not None
    assert config.data.proposals.val == str((first / "proposals-val.json").resolve())
    assert "proposals" not in json.loads((fast / "results.json").read_text())

    compared = call(main, capsys, "compare", "out")
    assert compared.code == 0
    assert "| paper, (c) |  | 44.0 | 56.3 | 44.9 | 63.4 | 66.2 |" in compared.out
    assert "| paper, (a) |  | 54.7 | 31.9 | 15.7 | 36.5 | 45.5 |" in compared.out
    assert [compared.out.count(f"| {name} | 1 |") for name in ("first", "fast")] == [1, 1]

    commands.clear()
    (first / "proposals-train.json").unlink()  # what others take is made again
    assert call(main, capsys, *WORDS, "--rows", "fast").code == 0
    assert [words.split()[0] for words in commands] == ["evaluate", "evaluate"]


def test_a_row_has_the_proposals_of_the_row_whose_weights_it_takes() -> None:
    study = load_study(Path("stages.yaml"))
    assert choose_rows(study, ("again",)) == ["first", "fast", "again"]
    again, fast, first = (make_job(study, name, 3, Path("out")) for name in ("again", "fast", "first"))
    assert again.weights == fast.weights == Path("out/fast/seed-3")
    assert again.proposals == fast.proposals == first.folder == Path("out/first/seed-3")
    assert first.proposals is None
    assert [job.is_source for job in (again, fast, first)] == [False, False, True]


def test_without_proposals_there_is_nothing_to_learn_from(
    commands: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("rpn.yaml").write_text("model: {}\n")
    outcome = call(main, capsys, *WORDS)
    assert outcome.code == 1
    assert "failed: row fast, seed 0: row first, whose proposals it takes, has none with this seed" in outcome.err
    assert [words.split()[0] for words in commands] == ["train"]
