from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import call
from yolofpn import __version__
from yolofpn.__main__ import COMMANDS, IN_CLONE, command_module, main


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    asked, nothing = call(main, capsys, "--help"), call(main, capsys)
    assert (asked.code, nothing.code) == (0, 2)
    for name, text in COMMANDS.items():
        assert name in asked.out
        assert text in nothing.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(main, capsys, "--version").out == f"{__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_command_with_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(main, capsys, command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("usage: ")


def test_unknown_commands_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = call(main, capsys, "detekt", "dog.jpg")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "yolofpn: unknown command 'detekt', did you mean detect?\n"
    assert "commands: detect, " in call(main, capsys, "xyz").err


@pytest.mark.parametrize("command", IN_CLONE)
def test_commands_of_the_clone_are_refused_without_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_module(command, tmp_path) is None
    monkeypatch.setattr("yolofpn.__main__.command_module", lambda _: None)
    outcome = call(main, capsys, command, "--help")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "clone" in outcome.err
