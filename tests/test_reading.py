"""Parsers behind one boundary, and limits that hold before anything large is made."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from yolofpn import yaml_text
from yolofpn.errors import UserError
from yolofpn.reading import (
    MAX_CLASSES,
    MAX_SIDE,
    ParseError,
    as_side,
    check_class_names,
    parse_json,
    parse_xml,
    read_bounded,
    read_text,
    short,
)
from yolofpn.yaml_text import parse_yaml

NESTED_ALIASES = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "!!bool maybe",
            "!!int ''",
            "2020-99-99",
            "!!float x",
            "!!python/name:os.system",
            '"\\UFFFFFFFF"',
            "1" * 5000,
        ),
        *("a: 1\na: 2", "{{a: b}: c}", "<<: 1", "*nothing", "&a [*a]", "%YAML 9.9\n--- a", "a: =", "\x01", '"a\\0b"'),
    ],
)
def test_whatever_the_yaml_parser_raises_is_a_parse_error(text: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_yaml(text)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 200


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 3000, "- " * 3000, "{a: " * 3000, "? " * 3000])
def test_deep_yaml_is_refused_at_its_line(text: str) -> None:
    with pytest.raises(ParseError, match="deeper") as error:
        parse_yaml("# first line\n" + text)
    assert error.value.line == 2


def test_nested_aliases_are_refused_before_they_are_written_out() -> None:
    start = time.process_time()
    with pytest.raises(ParseError, match="aliases") as error:
        parse_yaml(NESTED_ALIASES)
    assert time.process_time() - start < 2
    assert error.value.line is not None and error.value.line > 5


@pytest.mark.parametrize(
    "text", ["a: [\n" + "x,\n" * 60 + "]", "- a\n" * 60, "&a x: [\n" + "*a,\n" * 60 + "]", "[],\n" * 60]
)
def test_the_number_of_yaml_values_is_limited(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "MAX_WRITTEN_NODES", 50)
    with pytest.raises(ParseError, match="50 values") as error:
        parse_yaml(text if text[0] != "[" else f"[{text}]")
    assert error.value.line is not None and 40 < error.value.line < 60


def test_as_many_classes_as_are_possible_can_be_written_in_yaml() -> None:
    assert yaml_text.MAX_WRITTEN_NODES > 2 * MAX_CLASSES + 1000, "a number and a name for each, and other keys"


def test_ordinary_aliases_and_merge_keys_stay() -> None:
    assert parse_yaml("a: &x {k: 1, l: [1e-3]}\nb: {<<: *x, k: 2}\nc: *x") == {
        "a": {"k": 1, "l": [1e-3]},
        "b": {"k": 2, "l": [1e-3]},
        "c": {"k": 1, "l": [1e-3]},
    }


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "{", "", b"\xff"])
def test_bad_json_is_a_parse_error(text: str | bytes) -> None:
    with pytest.raises(ParseError):
        parse_json(text)


def test_json_says_the_line() -> None:
    with pytest.raises(ParseError) as error:
        parse_json('{"a": 1,\n"b" 2}')
    assert error.value.line == 2


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"<a", b"<a>\xff</a>", b'<?xml version="1.0" encoding="nothing"?><a/>'),
        *(b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', '<!DOCTYPE a [<!ENTITY x "y">]><a/>'.encode("utf-16")),
    ],
)
def test_bad_xml_is_a_parse_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(data)
    with pytest.raises(ParseError):
        parse_xml(path)


def test_deep_xml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b"<a>" * 50_000 + b"</a>" * 50_000)
    assert parse_xml(path).tag == "a"


@pytest.mark.parametrize(
    ("value", "side"), [(None, 0), (0, 0), (-3, 0), (640.0, 640), (float("nan"), 0), (MAX_SIDE,) * 2]
)
def test_sides(value: object, side: int) -> None:
    assert as_side(value) == side


@pytest.mark.parametrize("value", [1e12, float("inf"), 2**31, 10**400, MAX_SIDE + 1, "640", [1], True])
def test_sides_beyond_bounds(value: object) -> None:
    with pytest.raises(ParseError):
        as_side(value)


def test_text_keeps_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9.png\n")
    assert read_text(path).encode("utf-8", "surrogateescape") == b"caf\xe9.png\n"
    path.write_bytes(b"a\0b")
    with pytest.raises(ParseError):
        read_text(path)


def test_a_file_beyond_its_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(ParseError, match="limit"):
        read_bounded(path, 4)


def test_class_names_have_a_limit_and_an_encoding() -> None:
    check_class_names(["café", "犬"], "x.yaml")
    with pytest.raises(UserError, match="x"):
        check_class_names(["a", "\udce9"], "x.yaml")
    with pytest.raises(UserError, match="100,001"):
        check_class_names([""] * (MAX_CLASSES + 1), "x.yaml")


def test_short_is_short() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert len(short(deep)) < 40
    assert len(short("x" * 10**6)) < 100
    assert len(short(10**4000)) < 100
