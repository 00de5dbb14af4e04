"""Counts at lines and in zones, worked out by hand."""

from __future__ import annotations

import pytest

from yolofpn.errors import UserError
from yolofpn.track_info import Point, ShapeCount
from yolofpn.tracking.shapes import FORGET_SECONDS, Moved, Shape, ShapeCounter

DOOR = Shape("door", ((10.0, 50.0), (90.0, 50.0)))  # looked along from the left: its right side is below
YARD = Shape("yard", ((20.0, 20.0), (80.0, 20.0), (80.0, 80.0), (20.0, 80.0)))


def count(shape: Shape, *frames: dict[int, Point], names: dict[int, str] | None = None) -> list[ShapeCount]:
    """Tracks of size 20 (margin 1) at these positions in each frame, 10 frames per second."""
    counter = ShapeCounter(shape, shape.in_pixels((100, 100)))
    names = names or {}
    return [
        counter.update([Moved(track, point, 20, names.get(track, "person")) for track, point in frame.items()], i / 10)
        for i, frame in enumerate(frames)
    ]


def test_a_line_counts_both_directions_and_classes() -> None:
    frames = [{1: (30.0, 40.0), 2: (60.0, 70.0)}, {1: (30.0, 60.0), 2: (60.0, 55.0)}, {2: (60.0, 45.0)}]
    first, second, third = count(DOOR, *frames, names={2: "dog"})
    assert (first.entered, first.left, first.events) == (0, 0, ())
    assert (second.entered, second.left, second.events) == (1, 0, ((1, "in"),))
    assert (third.entered, third.left, third.events) == (1, 1, ((2, "out"),))
    assert third.by_class == {"dog": (0, 1), "person": (1, 0)}


def test_the_other_order_of_the_ends_swaps_directions() -> None:
    counted = count(Shape("door", DOOR.points[::-1]), {1: (30.0, 40.0)}, {1: (30.0, 60.0)})[-1]
    assert (counted.entered, counted.left) == (0, 1)


def test_who_passes_beside_the_ends_is_not_counted() -> None:
    assert count(DOOR, {1: (5.0, 40.0)}, {1: (5.0, 60.0)})[-1].events == ()
    assert count(DOOR, {1: (95.0, 40.0)}, {1: (95.0, 60.0)}, {1: (50.0, 60.0)}, {1: (50.0, 40.0)})[-1].left == 1


def test_a_box_that_trembles_on_the_line_is_counted_once() -> None:
    way = [45, 49.5, 50.4, 49.6, 50.9, 49.2, 50.5, 53, 50.2, 49.9, 56]
    counted = count(DOOR, *({1: (50.0, float(y))} for y in way))[-1]
    assert (counted.entered, counted.left) == (1, 0)


def test_a_jump_over_the_line_is_counted_also_after_some_frames_without_the_object() -> None:
    assert count(DOOR, {1: (50.0, 30.0)}, {}, {}, {1: (50.0, 70.0)})[-1].entered == 1


def test_a_zone_counts_who_comes_and_goes_and_is_inside() -> None:
    frames = [{1: (50.0, 50.0), 2: (5.0, 50.0)}, {1: (50.0, 50.0), 2: (30.0, 50.0)}, {1: (95.0, 50.0)}]
    first, second, third = count(YARD, *frames)
    assert (first.inside, first.entered, first.left) == ((1,), 0, 0)  # it was there from the beginning
    assert (second.inside, second.entered, second.left) == ((1, 2), 1, 0)
    assert (third.inside, third.entered, third.left) == ((), 1, 1)
    assert third.to_json() == {
        "name": "yard",
        "in": 1,
        "out": 1,
        "inside": 0,
        "events": [{"track_id": 1, "direction": "out"}],
    }


def test_concave_zones() -> None:
    corner = Shape("L", ((0.0, 0.0), (90.0, 0.0), (90.0, 30.0), (30.0, 30.0), (30.0, 90.0), (0.0, 90.0)))
    counted = count(corner, {1: (60.0, 60.0), 2: (60.0, 15.0), 3: (15.0, 60.0)})[-1]
    assert counted.inside == (2, 3)


def test_parts_of_the_image_become_pixels() -> None:
    assert Shape("door", ((0.0, 0.5), (1.0, 0.5))).in_pixels((200, 400)) == ((0.0, 100.0), (400.0, 100.0))


def test_tracks_are_forgotten() -> None:
    counter = ShapeCounter(DOOR, DOOR.points)
    for track in range(100):
        counter.update([Moved(track, (50.0, 30.0), 20, "person")], track * 1.0)
    assert len(counter._settled) <= FORGET_SECONDS + 1


@pytest.mark.parametrize(
    "points",
    [((1.0, 2.0),), ((1.0, 2.0), (1.0, 2.0)), ((0.0, 0.0), (5.0, 5.0), (9.0, 9.0)), ((float("nan"), 0.0), (1.0, 1.0))],
)
def test_impossible_shapes_are_refused(points: tuple[Point, ...]) -> None:
    with pytest.raises(UserError, match="door"):
        Shape("door", points)
