from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.data.test_avif_headers import avif, stating
from tests.videos import shades, write_video
from yolofpn.demo.limits import UploadLimits
from yolofpn.demo.uploads import check_upload, clean_name, receive
from yolofpn.errors import InputError

LIMITS = UploadLimits(image_bytes=20_000, image_pixels=10_000, video_pixels=64 * 48, video_seconds=2.0, video_frames=30)


def image(kind: str, width: int = 40, height: int = 20) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGB", (width, height), "red").save(file, kind)
    return file.getvalue()


def animation(kind: str, count: int = 3, height: int = 8, width: int = 8) -> bytes:
    frames = [PillowImage.fromarray(np.full((height, width, 3), 40 * index, np.uint8)) for index in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def write(folder: Path, data: bytes) -> Path:
    path = folder / "upload"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "ICO", "JPEG2000"])
def test_an_image_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    upload = check_upload(write(tmp_path, image(kind)), "holiday.mp4", LIMITS)
    assert upload.kind == "image"
    assert upload.frame().size == ((8, 16) if kind == "ICO" else (20, 40))  # Pillow writes icons of usual sizes
    assert upload.frame().source == "holiday.mp4"


def test_a_video_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", shades(5)).rename(tmp_path / "upload")
    upload = check_upload(path, "holiday.jpg", LIMITS)
    assert (upload.kind, upload.frame_count, upload.fps) == ("video", 5, 10.0)
    assert [frame.index for frame in upload.frames(LIMITS)] == [0, 1, 2, 3, 4]


def test_an_animation_is_a_video(tmp_path: Path) -> None:
    frames = [PillowImage.fromarray(np.full((8, 8, 3), 40 * index, np.uint8)) for index in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    upload = check_upload(tmp_path / "a.gif", "a.gif", LIMITS)
    assert upload.kind == "animation"
    assert [round(frame.time, 2) for frame in upload.frames(LIMITS)] == [0.0, 0.1, 0.2]


PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "dash": b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period/></MPD>',
    "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
}
NO_MEDIA = {
    "text": b"hello " * 100,
    "html": b"<!doctype html><script>alert(1)</script>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "pdf": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF",
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0",
    "noise": np.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("data", [*PLAYLISTS.values(), *NO_MEDIA.values()], ids=[*PLAYLISTS, *NO_MEDIA])
def test_what_is_neither_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="photo") as error:
        check_upload(write(tmp_path, data), "photo.jpg", LIMITS)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="101x100"):
        check_upload(write(tmp_path, image("PNG", 101, 100)), "a.png", LIMITS)
    with pytest.raises(InputError, match="9000x300"):
        check_upload(write(tmp_path, image("PNG", 9000, 300)), "wide.png", LIMITS)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_every_frame_of_an_animation_is_counted(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, animation(kind, count=4))
    assert check_upload(path, "a", LIMITS).kind == "animation"
    with pytest.raises(InputError, match="3 frames"):
        check_upload(path, "a", replace(LIMITS, video_frames=3))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_the_canvas_of_an_animation_is_that_of_a_video(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="70x50"):  # an image may be larger
        check_upload(write(tmp_path, animation(kind, 2, 50, 70)), "a", LIMITS)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_coded_size_of_an_avif_counts(tmp_path: Path, frames: int) -> None:
    with pytest.raises(InputError, match="640x480"):
        check_upload(write(tmp_path, stating(avif(frames=frames), 64, 48)), "a.avif", LIMITS)


def test_a_later_frame_may_not_widen_the_canvas_beyond_the_limit(tmp_path: Path) -> None:
    frame = b"," + struct.pack("<HHHHB", 60, 0, 5, 49, 0) + b"\2\2\x4c\1\0"
    with pytest.raises(InputError, match="65x49"):
        check_upload(write(tmp_path, animation("GIF", 2)[:-1] + frame + b";"), "a.gif", LIMITS)


def test_a_tile_larger_than_its_image_counts(tmp_path: Path) -> None:
    width, height, bits, compression, gray, tile_width, tile_height = 256, 257, 258, 259, 262, 322, 323
    tags = {width: 16, height: 16, bits: 8, compression: 1, gray: 1, tile_width: 2000, tile_height: 16, 324: 8, 325: 0}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(InputError, match="2000x16"):
        check_upload(write(tmp_path, tiff), "a.tif", LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "JPEG2000"])
def test_nothing_is_decoded_to_check_a_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    for loader in ("ImageFile.ImageFile", "WebPImagePlugin.WebPImageFile", "AvifImagePlugin.AvifImageFile"):
        monkeypatch.setattr(f"PIL.{loader}.load", fail)
    data = animation(kind) if kind in ("GIF", "PNG", "WEBP", "AVIF") else image(kind)
    assert check_upload(write(tmp_path, data), "a", LIMITS).pixels > 0


def test_a_large_file_is_not_opened_as_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.open", None)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "JPEG2000"):
        with pytest.raises(InputError, match="larger than"):
            check_upload(write(tmp_path, image(kind) + bytes(20_001)), "a", LIMITS)
    with pytest.raises(InputError, match="known kind"):
        check_upload(write(tmp_path, b"text " * 5000), "a", LIMITS)


def test_too_large_an_image_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="larger than"):
        check_upload(write(tmp_path, image("PNG") + bytes(20_001)), "a.png", LIMITS)


def test_a_cut_image_is_refused(tmp_path: Path) -> None:
    noise = PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, "JPEG")
    with pytest.raises(InputError, match="damaged"):
        check_upload(write(tmp_path, file.getvalue()[:900]), "a.jpg", LIMITS).frame()


@pytest.mark.parametrize(
    ("count", "height", "width", "expected"),
    [(21, 48, 64, "longer than 2 s"), (3, 50, 64, "64x50"), (2, 480, 640, "640x480")],
)
def test_a_video_too_large_is_refused(tmp_path: Path, count: int, height: int, width: int, expected: str) -> None:
    path = write_video(tmp_path / "a.mp4", shades(count, height, width))
    with pytest.raises(InputError, match=expected):
        check_upload(path, "a.mp4", LIMITS)


def test_a_video_that_is_longer_than_it_says_ends_at_the_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", shades(25), rate=25, format="h264")  # which says nothing of its length
    upload = check_upload(path, "a.h264", LIMITS)
    indices = []
    with pytest.raises(InputError, match="longer than"):
        for frame in upload.frames(UploadLimits(video_frames=7)):
            indices.append(frame.index)  # noqa: PERF401
    assert indices == list(range(7))


def test_frames_that_grow_are_not_decoded(tmp_path: Path) -> None:
    small = write_video(tmp_path / "small.h264", shades(5), rate=25, format="h264").read_bytes()
    large = write_video(tmp_path / "large.h264", shades(5, 480, 640), rate=25, format="h264").read_bytes()
    upload = check_upload(write(tmp_path, small + large), "a.h264", LIMITS)
    sizes = []
    with pytest.raises(InputError):
        for frame in upload.frames(LIMITS):
            sizes.append(frame.size)  # noqa: PERF401
    assert set(sizes) == {(48, 64)}


@pytest.mark.parametrize(("size", "good"), [(0, False), (1000, True), (1001, False)])
def test_receiving_stops_at_the_limit(tmp_path: Path, size: int, good: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 100):
            yield bytes(min(100, size - start))

    path = tmp_path / "upload"
    if good:
        asyncio.run(receive(chunks(), path, 1000))
        assert path.stat().st_size == size
    else:
        with pytest.raises(InputError):
            asyncio.run(receive(chunks(), path, 1000))
        assert path.stat().st_size <= 1000


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\dog.jpg", "dog.jpg"),
        ("a\nb\x1b[31m.png", "ab[31m.png"),
        ("", "upload"),
        ("x" * 500 + ".png", "x" * 76 + ".png"),
    ],
)
def test_names_are_made_harmless(given: str, shown: str) -> None:
    assert clean_name(given) == shown
