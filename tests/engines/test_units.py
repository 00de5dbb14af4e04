"""Units of work, and which of them a resumed run has left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from yolofpn.engines.identities import digests, identity
from yolofpn.engines.listing import Listed
from yolofpn.engines.units import DoneUnits, Unit, make_units, undone


def images(*names: str) -> list[Listed]:
    return [Listed(name, "image") for name in names]


def done(units: list[Unit], failed: dict[str, tuple[int, ...]] | None = None) -> DoneUnits:
    """As if ``units`` had parts."""
    names = [each.uri for unit in units for each in unit.listed if each.kind == "image"]
    return DoneUnits({unit.name: () for unit in units} | (failed or {}), np.sort(digests(names)))


def test_units_have_names_of_their_own_that_stay() -> None:
    listed = [*images("a", "b", "c"), Listed("x.tar", "tar"), *images("d", "a", "b", "c")]
    units = list(make_units(listed, 3))
    assert [[each.uri for each in unit.listed] for unit in units] == [
        ["a", "b", "c"],
        ["x.tar"],
        ["d", "a", "b"],
        ["c"],
    ]
    assert units == list(make_units(listed, 3)) and len({unit.name for unit in units}) == 4
    twice = list(make_units(images("a", "a"), 1))
    assert twice[0].name != twice[1].name


def test_units_travel_as_text() -> None:
    unit = Unit("part-1", (Listed("a\udcff.jpg", "image"), Listed("b", "failed", "why")), (1,))
    assert Unit.from_json(unit.to_json()) == unit


def test_a_resumed_run_has_what_is_left() -> None:
    units = list(make_units([*images(*"abcdefg"), Listed("x.tar", "tar"), Listed("y.tar", "tar")], 2))
    assert list(undone(units, DoneUnits())) == units
    assert list(undone(units, done(units))) == []
    some = done([units[0], units[2], units[3]], {units[2].name: (1,)})
    left = list(undone(units, some))
    assert [unit.name for unit in left] == [units[1].name, units[2].name, *(unit.name for unit in units[4:])]
    assert [unit.again for unit in left][1] == (1,)


def test_every_image_once_though_the_sources_have_changed() -> None:
    before = list(make_units([*images(*"bcdefgh"), Listed("x.tar", "tar")], 3))
    parts = [before[0], *before[2:]]  # the tar and its neighbour
    now = [*images("a", *"bcdefgh", "i"), Listed("x.tar", "tar")]
    rest = list(undone(make_units(now, 3), done(parts)))
    held = Counter(each.uri for unit in [*parts, *rest] for each in unit.listed)
    assert set(held) == {*"abcdefghi", "x.tar"} and set(held.values()) == {1}
    assert not {unit.name for unit in rest} & {unit.name for unit in parts}


@pytest.mark.parametrize("form", ["s3://b/session={}/000.jpg", "s3://b/user_id={}/a.jpg", "https://h/get?key={}.jpg"])
def test_images_whose_names_are_masked_are_told_apart(form: str) -> None:
    units = list(make_units(images(*(form.format(index) for index in range(4))), 1))
    assert len({unit.name.rpartition("-")[2] for unit in units}) == 4
    assert list(undone(units, done(units[:1]))) == units[1:]
    others = make_units(images("s3://b/new.jpg", *(unit.listed[0].uri for unit in units)), 1)
    assert [unit.listed[0].uri for unit in undone(others, done(units[:1]))][1:] == [u.listed[0].uri for u in units[1:]]


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("s3://me:word@b/a.jpg", "s3://b/a.jpg"),
        ("https://h/a.jpg?v=1&X-Amz-Date=2&X-Amz-Signature=3", "https://h/a.jpg?v=1"),
        ("https://h/a.jpg?Expires=1&Signature=2&Key-Pair-Id=3", "https://h/a.jpg"),
        ("az://c/a.jpg?sv=1&se=2&sig=3", "az://c/a.jpg"),
        ("https://h/a.jpg?expires=1&st=2", "https://h/a.jpg?expires=1&st=2"),
        ("in/a?sig=1.jpg", "in/a?sig=1.jpg"),
    ],
)
def test_a_new_signature_makes_no_other_image(address: str, same: str) -> None:
    assert identity(address) == same


def test_digests_of_many_names_are_found() -> None:
    names = [f"{index}.jpg" for index in range(1000)]
    there = DoneUnits({}, np.sort(digests(names[::3])))
    assert there.holds(names).tolist() == [index % 3 == 0 for index in range(1000)]
