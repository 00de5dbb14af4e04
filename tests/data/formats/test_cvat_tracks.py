from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.formats.reading import load, rows_of, write_images
from tests.data.trees import write
from yolofpn.errors import UserError

META = (
    "<meta><task><size>6</size><mode>interpolation</mode><start_frame>0</start_frame><stop_frame>5</stop_frame>"
    "<labels><label><name>cat</name></label><label><name>dog</name></label></labels>"
    "<original_size><width>60</width><height>40</height></original_size></task></meta>"
)


def box(
    frame: int, corners: tuple[float, float, float, float], *, outside: int = 0, rotation: float | None = None
) -> str:
    sides = " ".join(f'{key}="{side:.2f}"' for key, side in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    turned = "" if rotation is None else f' rotation="{rotation:.2f}"'
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {sides}{turned} z_order="0"></box>'


def video(folder: Path, *tracks: str, frames: int = 6) -> Path:
    write_images(folder / "images", *(f"frame_{number:06d}.PNG" for number in range(frames)))
    write(folder / "annotations.xml", f"<annotations><version>1.1</version>{META}{''.join(tracks)}</annotations>")
    return folder


def track(label: str, *shapes: str) -> str:
    return f'<track id="0" label="{label}" source="manual">{"".join(shapes)}</track>'


def test_shapes_move_between_keyframes_until_they_are_outside(tmp_path: Path) -> None:
    corners = (0.0, 0.0, 10.0, 10.0), (20.0, 4.0, 34.0, 14.0)
    moving = track("dog", box(1, corners[0]), box(3, corners[1]), box(5, corners[1], outside=1))
    dataset = load(video(tmp_path, moving), "cvat")
    assert dataset.names == ("cat", "dog")
    assert rows_of(dataset) == [
        ("frame_000001.PNG", "dog", [0, 0, 10, 10], False),
        ("frame_000002.PNG", "dog", [10, 2, 22, 12], False),
        ("frame_000003.PNG", "dog", [20, 4, 34, 14], False),
        ("frame_000004.PNG", "dog", [20, 4, 34, 14], False),
    ]
    assert len(dataset) == 6


def test_a_track_comes_back_and_the_last_shape_stays_to_the_end(tmp_path: Path) -> None:
    corners = (1.0, 2.0, 11.0, 12.0)
    again = track("cat", box(0, corners), box(1, corners, outside=1), box(4, corners))
    images = [image for image, *_ in rows_of(load(video(tmp_path, again), "cvat"))]
    assert images == ["frame_000000.PNG", "frame_000004.PNG", "frame_000005.PNG"]


def test_turned_boxes_turn_the_short_way(tmp_path: Path) -> None:
    corners = (20.0, 15.0, 40.0, 25.0)  # 20 x 10 about (30, 20)
    turning = track("cat", box(0, corners, rotation=350), box(2, corners, rotation=10), box(3, corners, outside=1))
    rows = rows_of(load(video(tmp_path, turning), "cvat"))
    assert rows[1] == ("frame_000001.PNG", "cat", [20, 15, 40, 25], False)  # 0 degrees
    assert rows[0][2] == rows[2][2] == pytest.approx([19.284, 13.34, 40.716, 26.66], abs=0.01)


def test_other_shapes_and_points(tmp_path: Path) -> None:
    polygon = '<polygon frame="0" keyframe="1" outside="0" points="5,5;20,9;7,30"></polygon>'
    point = '<points frame="0" keyframe="1" outside="0" points="5,5"></points>'
    gone = polygon.replace('frame="0"', 'frame="1"').replace('outside="0"', 'outside="1"')
    dataset = load(video(tmp_path, track("cat", polygon, gone), track("dog", point)), "cvat")
    assert rows_of(dataset) == [("frame_000000.PNG", "cat", [5, 5, 20, 30], False)]


def test_too_many_frames_are_refused(tmp_path: Path) -> None:
    folder = video(tmp_path, track("cat", box(999_999_999, (1, 1, 9, 9))))
    with pytest.raises(UserError, match="frames"):
        load(folder, "cvat")
