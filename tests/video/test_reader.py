"""Videos: every frame upright at its time, and damage told after what could be read."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.videos import noise, shades, write_video
from yolofpn.errors import InputError
from yolofpn.structures import Frame
from yolofpn.video.reader import is_video, probe_video, read_video


def collect(path: Path) -> tuple[list[Frame], str]:
    """Frames one by one, so that those before an error are kept."""
    frames: list[Frame] = []
    try:
        for frame in read_video(path, path.name):
            frames.append(frame)  # noqa: PERF402 keeps what came before the error
    except InputError as error:
        return frames, str(error)
    return frames, ""


def test_every_frame_with_its_number_and_time(tiny_video: Path) -> None:
    frames = list(read_video(tiny_video, "tiny"))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in range(12)])
    assert all(frame.source == "tiny" and frame.clock is None for frame in frames)
    for frame, expected in zip(frames, shades(12), strict=True):
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).max() <= 6  # the encoder rounds


@pytest.mark.parametrize("stride", [1, 2, 5, 12, 50])
def test_stride_keeps_true_numbers_and_times(tiny_video: Path, stride: int) -> None:
    kept = [(frame.index, round(frame.time, 3)) for frame in read_video(tiny_video, "tiny", stride)]
    assert kept == [(index, index / 10) for index in range(0, 12, stride)]


def test_variable_frame_rate(tmp_path: Path) -> None:
    shown = [0, 40, 300, 310, 1500, 1600]
    path = write_video(tmp_path / "variable.mkv", shades(6), milliseconds=shown)
    assert [frame.time for frame in read_video(path, "v")] == pytest.approx([time / 1000 for time in shown])


def test_times_count_from_the_start_of_the_stream(tmp_path: Path) -> None:
    """MPEG transport streams start their clock anywhere."""
    path = write_video(tmp_path / "late.ts", shades(6), milliseconds=[5000 + 100 * i for i in range(6)])
    with av.open(str(path)) as container:
        assert (container.streams.video[0].start_time or 0) > 0
    assert [frame.time for frame in read_video(path, "v")] == pytest.approx([0.1 * i for i in range(6)], abs=1e-4)


def marked() -> NDArray[np.uint8]:
    """Blue at the top left, green at the top right, red at the bottom left."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32, 0] = image[:24, 32:, 1] = image[24:, :32, 2] = 255
    return image


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_metadata(tmp_path: Path, rotation: int) -> None:
    """Players turn such a video counterclockwise by its rotation."""
    path = write_video(tmp_path / "turned.mp4", [marked()] * 2, rotation=rotation)
    expected = np.rot90(marked(), rotation // 90)
    for frame in read_video(path, "turned"):
        assert frame.image.shape == expected.shape
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - expected).mean() < 8


def test_mirrored_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", [marked()], rotation=180)
    turned, mirrored = (
        b"".join(value.to_bytes(4, "big", signed=True) for value in (a << 16, 0, 0, 0, d << 16))
        for a, d in ((-1, -1), (-1, 1))
    )
    content = path.read_bytes()
    assert content.count(turned) == 1
    path.write_bytes(content.replace(turned, mirrored))
    frame = next(read_video(path, "mirrored"))
    assert np.abs(frame.image.astype(int) - marked()[:, ::-1]).mean() < 8


def test_odd_sizes(tmp_path: Path) -> None:
    frames = noise(2, 49, 65)
    path = write_video(tmp_path / "odd.mkv", frames, codec="ffv1")
    for frame, expected in zip(read_video(path, "odd"), frames, strict=True):
        np.testing.assert_array_equal(frame.image, expected)


@pytest.mark.slow
def test_real_videos_are_whole(data_dir: Path) -> None:
    path = data_dir / "videos" / "library1.mp4"
    frames = list(read_video(path, "library1"))
    assert len(frames) == 69
    assert frames[0].size == (1280, 720)
    count, fps = probe_video(path, "library1")
    assert count == 69
    assert fps == pytest.approx(29.73, abs=0.01)


@pytest.mark.slow
def test_frames_are_what_opencv_reads(data_dir: Path) -> None:
    path = data_dir / "videos" / "library1.mp4"
    capture = cv2.VideoCapture(str(path))
    for frame in islice(read_video(path, "library1"), 5):
        np.testing.assert_array_equal(frame.image, capture.read()[1])
    capture.release()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec", "flags"),
    [
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mov", "mjpeg", {"movflags": "faststart"}),
        ("mkv", "libx264", {}),
        ("webm", "libvpx", {}),
        ("avi", "mpeg4", {}),
    ],
)
def test_cut_video_gives_what_is_readable_and_says_so(
    tmp_path: Path, suffix: str, codec: str, flags: dict[str, str]
) -> None:
    path = write_video(tmp_path / f"whole.{suffix}", noise(24), codec=codec, flags=flags)
    whole, error = collect(path)
    assert (len(whole), error) == (24, "")
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    frames, error = collect(cut)
    assert 5 <= len(frames) < 24
    assert f"cut.{suffix}: damaged or cut off: {len(frames)} frames could be read" in error
    for frame, expected in zip(frames, whole, strict=False):
        np.testing.assert_array_equal(frame.image, expected.image)


def test_video_without_its_index(tmp_path: Path) -> None:
    """An mp4 whose index stood at the end that is gone."""
    path = write_video(tmp_path / "v.mp4", noise(10))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, error = collect(path)
    assert frames == []
    assert error.startswith("v.mp4: cannot be opened as a video (")


@pytest.mark.slow
def test_damage_in_the_middle_does_not_end_the_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", noise(40), flags={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    size = len(content) // 10
    content[middle : middle + size] = b"\x55" * size
    path.write_bytes(content)
    frames, error = collect(path)
    assert frames[-1].index >= 30
    assert "damaged" in error


@pytest.mark.parametrize(
    "content", [b"", b"this is text\n" * 200, bytes(5000), b"\x00\x00\x00\x18ftypmp42" + bytes(100)]
)
def test_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    frames, error = collect(path)
    assert frames == []
    assert error.startswith("text.mp4: ")
    assert error.count("\n") == 0
    assert not is_video(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    assert "holds no video" in collect(path)[1]


def test_image_named_like_a_video(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "dog.mp4"
    path.write_bytes((data_dir / "odd" / "hopper.jpg").read_bytes())
    assert "a single image, not a video" in collect(path)[1]
    assert not is_video(path)


def test_missing_video(tmp_path: Path) -> None:
    assert "No such file" in collect(tmp_path / "none.mp4")[1]


def test_colons_and_percents_in_names(tmp_path: Path, tiny_video: Path) -> None:
    path = tmp_path / "http:a%03d é.mp4"
    path.write_bytes(tiny_video.read_bytes())
    assert len(list(read_video(path, "v"))) == 12


def test_closing_early_releases_the_file(tiny_video: Path) -> None:
    frames = read_video(tiny_video, "v")
    assert next(frames).index == 0
    frames.close()  # type: ignore[attr-defined]
    assert list(frames) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere threads are not counted by looking")
def test_no_threads_and_no_memory_are_left_behind_by_a_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", shades(20) * 10)
    threads = [len(list(Path("/proc/self/task").iterdir())) for _ in read_video(path, "clip.mp4")]
    assert max(threads[10:]) <= threads[10] + 2
