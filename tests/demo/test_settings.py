from __future__ import annotations

import pytest

from yolofpn.demo.settings import Settings, parse_settings
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
