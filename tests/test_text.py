"""Class names, file names and cards reach neither a terminal as commands nor a file as something unreadable."""

from __future__ import annotations

import io
import json
import os
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from yolofpn.text import (
    as_yaml,
    bar_stream,
    command,
    counted,
    from_list_line,
    list_line,
    one_line_names,
    printable,
    printable_output,
    typed_command,
)
from yolofpn.yaml_text import parse_yaml

RED = "\x1b[31mred\x9b0m\x7f\x08"


def test_control_characters_become_escapes() -> None:
    assert printable(RED) == r"\u001b[31mred\u009b0m\u007f\u0008"
    assert printable("犬 café\t🐕\n") == "犬 café\t🐕\n"


def test_output_of_a_command_holds_none(capsys: pytest.CaptureFixture[str]) -> None:
    with printable_output():
        print(RED)
        print("a\rb", file=sys.stderr)
        sys.stdout.writelines([RED, "\n"])
    print("\x1b after")
    printed = capsys.readouterr()
    assert printed.out == 2 * "\\u001b[31mred\\u009b0m\\u007f\\u0008\n" + "\x1b after\n"
    assert printed.err == "a\\u000db\n"


@pytest.mark.parametrize("text", ["\rspoofed", "\r\r", "\n\x1b[A", "\x1b[A\x1b[A"])
def test_what_only_bars_may_write_is_escaped_in_any_other_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with printable_output(), tqdm(total=2, file=bar_stream(sys.stderr)):
        capsys.readouterr()
        sys.stdout.write(text)
        sys.stderr.write(text)
        printed = capsys.readouterr()
    assert printed.out == printed.err == printable(text)
    assert "\r" not in printed.out and "\x1b" not in printed.out


def test_bars_still_move(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with printable_output(), tqdm(desc="a\x1b]0;t\x07\rb", total=2, mininterval=0, file=bar_stream(sys.stderr)) as bar:
        bar.update()
        with tqdm.external_write_mode(file=sys.stderr):
            print("a line", file=sys.stderr)
    shown = terminal.getvalue()
    assert shown.count("\r") >= 3
    assert "\r" + 10 * " " in shown, "the bar makes room for the line"
    assert "\rb" not in shown and "\x1b" not in shown and "\x07" not in shown


def test_several_bars_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with printable_output(), tqdm(total=1, file=bar_stream(sys.stderr)), tqdm(total=1, file=bar_stream(sys.stderr)):
        pass
    assert "\n\r" in terminal.getvalue() and "\x1b[A" in terminal.getvalue()


def test_closed_streams_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    with printable_output():
        print("a")
        print("b", file=sys.stderr)
        assert not sys.stderr.isatty()
    assert sys.stdout is None and sys.stderr is None


@pytest.mark.slow
@settings(max_examples=60)
@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12))
def test_every_name_is_one_line_of_a_list(name: str) -> None:
    line = list_line(name)
    assert len(re.split(r"[\r\n]", line)) == 1
    assert from_list_line(line.strip()) == name


def test_plain_names_stay_as_they_are_in_lists() -> None:
    for name in ("a/b c.png", "caf\udce9.png", "犬.png", 'a "b".png', '"'):
        assert from_list_line(list_line(name)) == name
    assert list_line("caf\udce9 犬.png") == "caf\udce9 犬.png"
    assert list_line("#a\nb") == '"#a\\nb"'
    assert from_list_line('"not JSON') == '"not JSON'


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_yaml_and_json_read_back_what_is_written(text: str) -> None:
    assert parse_yaml(f"name: {as_yaml(text)}") == {"name": text}
    assert json.loads(as_yaml(text)) == text


def test_the_bytes_of_a_file_name_survive_yaml() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert os.fsencode(parse_yaml(as_yaml(name))) == b"caf\xe9.png"


def test_names_take_one_line_each() -> None:
    assert one_line_names(["a", "b\nc\u2028d", " \n"]) == ["a", "b c d", "2"]


@pytest.mark.parametrize(
    ("started", "script", "no_script"),
    [
        ("train.py", "python evaluate.py", "python -m yolofpn check"),
        ("../my clone/train.py", "python '../my clone/evaluate.py'", "python -m yolofpn check"),
        ("/venv/bin/yolofpn", "yolofpn evaluate", "yolofpn check"),
        ("Scripts/yolofpn.exe", "yolofpn evaluate", "yolofpn check"),
        ("/venv/lib/yolofpn/__main__.py", "python -m yolofpn evaluate", "python -m yolofpn check"),
        ("notebook.py", "python -m yolofpn evaluate", "python -m yolofpn check"),
        ("", "python -m yolofpn evaluate", "python -m yolofpn check"),
    ],
)
def test_next_commands_have_the_form_of_the_one_that_was_typed(
    started: str, script: str, no_script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started, "--cfg", "a.yaml"])
    assert command("evaluate") == script
    assert command("check") == no_script


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["train.py", "--cfg", "a b.yaml"], "python train.py --cfg 'a b.yaml'"),
        (["/venv/bin/yolofpn", "train", "x=1"], "yolofpn train x=1"),
        (["/venv/lib/yolofpn/__main__.py", "train"], "python -m yolofpn train"),
    ],
)
def test_the_command_line_is_kept_as_it_was_typed(argv: list[str], typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert typed_command() == typed


def test_numbers_of_things() -> None:
    things = [(1, "epoch"), (2, "epoch"), (0, "box"), (3, "batch"), (1, "batch")]
    assert [counted(*each) for each in things] == ["1 epoch", "2 epochs", "0 boxes", "3 batches", "1 batch"]
