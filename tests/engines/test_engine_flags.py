"""Flags of ``--engine`` that make no sense, which need no engine to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import call
from yolofpn.cli import detect as command
from yolofpn.engines import engine_run


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--show", "--show"),
        ("--track", "--track"),
        ("--shard 1/2", "--shard"),
        ("--media all", "--media"),
        ("--vid-stride 2", "--vid-stride"),
        ("--output -", "--output"),
        ("-", "-"),
        ("rtsp://me:hunter2@host/x", "live"),
        ("0", "live"),
        ("--format csv", "csv"),
        ("--format parquet,jsonl", "both"),
        ("--format jsonl,coco", "coco"),
        ("--resume a --output b", "--resume"),
    ],
)
def test_flags_that_make_no_sense(good_image: Path, capsys: pytest.CaptureFixture[str], words: str, named: str) -> None:
    outcome = call(command.main, capsys, "good.png", "--engine", "ray", *words.split())
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and named in outcome.err
    assert "hunter2" not in outcome.err


@pytest.mark.parametrize("engine", [[], ["--engine", "ray"]])
def test_resume_of_nothing(engine: list[str], good_image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(command.main, capsys, "good.png", "--resume", "", *engine)
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "--resume" in outcome.err


def test_an_engine_needs_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(command.main, capsys, "--engine", "ray")
    assert outcome.code == 2 and "source" in outcome.err


@pytest.mark.parametrize(
    "words",
    ["--workers 2", "--address auto", "--column x", "--gpus-per-worker .5", "--format parquet", "--part-size 9"],
)
def test_flags_of_an_engine_alone(good_image: Path, capsys: pytest.CaptureFixture[str], words: str) -> None:
    outcome = call(command.main, capsys, "good.png", *words.split())
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "--engine" in outcome.err


def test_without_ray_one_line_says_what_to_install(
    good_image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_run, "is_installed", lambda name: False)
    outcome = call(command.main, capsys, "good.png", "--engine", "ray")
    assert outcome.code == 2 and outcome.err.count("\n") == 1 and "pip install" in outcome.err
