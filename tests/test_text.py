"""Class names, file names and cards reach neither a terminal as commands nor a file as something unreadable."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from yolofpn.reading import parse_yaml
from yolofpn.text import as_yaml, one_line_names, printable, printable_output

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


def test_bars_still_move(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    with printable_output(), tqdm(total=2, desc="a\x1b]0;title\x07", mininterval=0) as bar:
        bar.update()
    assert "\r" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue() and "\x07" not in terminal.getvalue()


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
