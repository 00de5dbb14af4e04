from __future__ import annotations

import pytest

from yolofpn.demo.limits import SettingLimits
from yolofpn.demo.settings import Settings, parse_settings, read_settings
from yolofpn.errors import InputError


def test_what_is_not_given_is_as_the_weights_say() -> None:
    assert parse_settings({}) == Settings("0", None, None, None, None)
    assert parse_settings({"size": "", "score": " ", "classes": "\n", "other": "x"}) == Settings()


def test_everything_given() -> None:
    values = {"weights": "2", "size": "416", "score": ".3", "nms": "1", "classes": "potted plant\nred, green"}
    assert parse_settings(values) == Settings("2", 416, 0.3, 1.0, ("potted plant", "red, green"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", "0"),
        ("size", "-32"),
        ("size", "1312"),
        ("size", "9" * 5000),
        ("size", "0000000011312"),
        ("size", "000000416"),
        ("size", "1" + "0" * 20 + "416"),
        ("score", "0.009"),
        ("score", "1" * 5000),
        ("classes", "x" * 201),
        ("classes", "9" * 5000),
        ("classes", "a\n" * 40_000),
        ("size", "4e2"),
        ("size", "²"),
        ("score", "1.01"),
        ("score", "nan"),
        ("score", "x"),
        ("nms", "-0.1"),
        ("nms", "inf"),
        ("classes", "a\n" * 2001),
    ],
)
def test_impossible_values_are_named(key: str, value: str) -> None:
    with pytest.raises(InputError) as error:
        parse_settings({key: value})
    assert len(str(error.value)) < 120


def test_a_message_brings_the_same_settings_as_an_address() -> None:
    message = '{"weights": "2", "size": 416, "score": 0.3, "nms": "1", "classes": "red", "other": [1], "more": null}'
    values = {"weights": "2", "size": "416", "score": ".3", "nms": "1", "classes": "red"}
    assert read_settings(message) == parse_settings(values)
    assert read_settings('{"size": null, "classes": ""}') == Settings()


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[1]",
        "[" * 50_000,
        '{"size": [416]}',
        '{"size": {"a": 1}}',
        '{"size": true}',
        '{"size": 1e9}',
        '{"size": 4160}',
        '{"size": 0000416}',
        '{"size": "0000416"}',
        '{"size": ' + "9" * 5000 + "}",
        '{"score": NaN}',
        '{"score": -Infinity}',
        '{"classes": "' + "a" * 70_000 + '"}',
    ],
)
def test_impossible_messages_are_one_line(message: str) -> None:
    with pytest.raises(InputError) as error:
        read_settings(message)
    assert len(str(error.value)) < 120


def test_the_limits_are_those_of_the_server() -> None:
    limits = SettingLimits(img_size=64, classes=1, score_thresh=0.2)
    assert parse_settings({"size": "64", "score": "0.2"}, limits).img_size == 64
    for values in ({"size": "65"}, {"classes": "a\nb"}, {"score": "0.1"}):
        with pytest.raises(InputError):
            parse_settings(values, limits)
