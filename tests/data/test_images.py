"""Images of every kind: read right, or refused with a reason and a remedy."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from yolofpn.data.images import IMAGE_SUFFIXES, MAX_PIXELS, image_size, is_animated, read_frames, read_image, to_bgr
from yolofpn.errors import InputError

DAMAGED, UNKNOWN, TOO_LARGE = "damaged or cut off", "not an image of a known format", "more pixels than the limit"
LOSSLESS: dict[str, dict[str, object]] = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def encoded(pil_image: PIL.Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    pil_image.save(stream, format, **options)
    return stream.getvalue()


def random_rgb(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG written by hand: Pillow writes no 16-bit colour, and no chunks behind the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def exif(orientation: int) -> bytes:
    data = PIL.Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


@pytest.mark.slow
def test_photographs_are_what_opencv_reads(data_dir: Path) -> None:
    for path in sorted((data_dir / "coco128").rglob("*.jpg"))[:16]:
        np.testing.assert_array_equal(read_image(path), cv2.imread(str(path)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_of_photographs(odd: Path, orientation: int) -> None:
    """Upright they are the untransformed image but for JPEG's losses; all other turns are far from it."""
    reference = read_image(odd / "hopper.jpg").astype(float)
    image = read_image(odd / f"hopper_orientation_{orientation}.jpg").astype(float)
    turns = [np.rot90(side, k) for side in (image, image.transpose(1, 0, 2)) for k in range(4)]
    distances = [float(np.abs(turn - reference).mean()) for turn in turns]
    assert distances[0] < 8
    assert min(distances[1:]) > 30


def test_orientation_of_a_webp_photograph(odd: Path) -> None:
    difference = read_image(odd / "hopper_orientation_6.webp").astype(float) - read_image(odd / "hopper.webp")
    assert np.abs(difference).mean() < 8


# EXIF 2.32, tag 0x0112: where row 0 and column 0 of the stored array are in the image seen.
def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    seen_from = {
        1: upright,
        2: upright[:, ::-1],  # row 0 top, column 0 right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: upright.transpose(1, 0, 2)[::-1],  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: upright.transpose(1, 0, 2)[:, ::-1],  # left, bottom
    }
    return np.ascontiguousarray(seen_from[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", LOSSLESS)
def test_orientation_exactly(format: str, orientation: int) -> None:
    upright = random_rgb(5, 7)
    pil_image = PIL.Image.fromarray(stored_as(upright, orientation))
    data = encoded(pil_image, format, exif=exif(orientation), **LOSSLESS[format])
    np.testing.assert_array_equal(read_image(data), upright[..., ::-1])
    assert image_size(data) == (5, 7)
    np.testing.assert_array_equal(to_bgr(PIL.Image.open(io.BytesIO(data))), upright[..., ::-1])


def test_orientation_behind_the_pixels_of_a_png() -> None:
    rows = b"".join(b"\0" + bytes(range(row * 6, row * 6 + 6)) for row in range(3))
    late = png(2, 3, 8, 2, rows, after=png_chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")))
    assert image_size(late) == read_image(late).shape[:2] == (2, 3)
    plain = png(2, 3, 8, 2, rows)
    assert image_size(plain) == read_image(plain).shape[:2] == (3, 2)


def test_image_size_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    data = encoded(PIL.Image.fromarray(random_rgb(4, 6)), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert image_size(data) == (4, 6)


def test_sixteen_bit_images_keep_the_high_byte() -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    for format in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(read_image(encoded(PIL.Image.fromarray(values), format)), expected)
    np.testing.assert_array_equal(to_bgr(PIL.Image.fromarray(values)), expected)


def test_sixteen_bit_colour() -> None:
    rows = b"\0" + struct.pack(">6H", 0xFF12, 0x80FF, 0x0100, 0x00FF, 0x7F00, 0xFFFF)
    np.testing.assert_array_equal(read_image(png(2, 1, 16, 2, rows)), [[[1, 0x80, 0xFF], [0xFF, 0x7F, 0]]])


def test_sixteen_bit_tiff_is_what_opencv_reads(odd: Path) -> None:
    path = odd / "tiff_16bit_RGB.tiff"
    deep = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert deep is not None
    np.testing.assert_array_equal(read_image(path), deep.astype(np.uint16) >> 8)


def test_transparent_sixteen_bit_grey_is_white() -> None:
    rows = b"\0" + struct.pack(">3H", 0x1234, 0x8000, 0x1235)
    data = png(3, 1, 16, 0, rows, before=png_chunk(b"tRNS", struct.pack(">H", 0x1234)))
    assert read_image(data)[0, :, 0].tolist() == [255, 0x80, 0x12]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-3.0, 100.4, 300.0]], np.float32), [0, 100, 255]),
        (np.array([[np.nan, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[-5, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[255, 256, 65535]], np.int32), [0, 1, 255]),
        (np.array([[65535, 1 << 24, (1 << 31) - 1]], np.int32), [0, 1, 127]),
    ],
)
def test_floats_and_wide_integers(values: NDArray[np.float32 | np.int32], expected: list[int]) -> None:
    for image in (to_bgr(PIL.Image.fromarray(values)), read_image(encoded(PIL.Image.fromarray(values), "TIFF"))):
        assert image[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    """A transparent green pixel, a half transparent black one and an opaque one."""
    rgba = np.array([[[0, 255, 0, 0], [0, 0, 0, 128], [10, 10, 10, 255]]], np.uint8)
    pil_image = PIL.Image.fromarray(rgba)
    if mode == "P":
        pil_image = pil_image.quantize(3, method=PIL.Image.Quantize.FASTOCTREE)
    image = read_image(encoded(pil_image.convert(mode) if mode != "P" else pil_image, "PNG"))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 1].tolist() == [127, 127, 127]
    assert image[0, 2].tolist() == [10, 10, 10]


def test_transparent_files(odd: Path) -> None:
    for name in ("transparent.gif", "transparent.png", "transparent.webp", "p_trns_single.png", "rgb_trns.png"):
        image = read_image(odd / name)
        height, width = image.shape[:2]
        corner = image[0, 0] if name.startswith("transparent") else image[height // 2, width // 2]
        assert corner.tolist() == [255, 255, 255], name


def test_cmyk_looks_like_its_rgb_twin(odd: Path) -> None:
    cmyk, rgb = (read_image(odd / f"pil_sample_{mode}.jpg").astype(float) for mode in ("cmyk", "rgb"))
    assert np.abs(cmyk - rgb).mean() < 10
    assert np.abs(255 - cmyk - rgb).mean() > 100


def test_grey_and_black_and_white_have_equal_channels(odd: Path) -> None:
    grey = read_image(odd / "hopper_gray.jpg")
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    bits = PIL.Image.fromarray(np.array([[True, False]]))
    assert read_image(encoded(bits, "PNG")).tolist() == [[[255] * 3, [0] * 3]]


def test_first_page_and_first_frame(odd: Path) -> None:
    pages = [PIL.Image.new("RGB", (4, 3), colour) for colour in ("red", "lime")]
    for format in ("TIFF", "GIF"):
        image = read_image(encoded(pages[0], format, save_all=True, append_images=pages[1:]))
        assert image.reshape(-1, 3).tolist() == [[0, 0, 255]] * 12
    assert not is_animated(odd / "multipage.tiff")
    assert not is_animated(odd / "sugarshack.mpo")
    assert not is_animated(odd / "hopper.gif")


@pytest.mark.parametrize("name", ["iss634.gif", "iss634.webp"])
def test_frames_of_an_animation(odd: Path, name: str) -> None:
    frames = list(read_frames(odd / name))
    assert is_animated(odd / name)
    assert len(frames) == 42
    assert all(image.shape == (245, 245, 3) for image, *_ in frames)
    times = [time for _, time, _ in frames]
    assert times[0] == 0.0
    assert np.diff(times).min() >= 0.02
    np.testing.assert_array_equal(frames[0][0], read_image(odd / name))


def test_frame_times_are_the_durations_so_far() -> None:
    pages = [PIL.Image.new("RGB", (4, 3), (shade, 0, 0)) for shade in (0, 100, 200, 250)]
    data = encoded(pages[0], "WEBP", save_all=True, append_images=pages[1:], duration=[40, 0, 500, 40], lossless=True)
    frames = list(read_frames(data))
    assert [time for _, time, _ in frames] == pytest.approx([0.0, 0.04, 0.14, 0.64])
    assert [duration for *_, duration in frames] == pytest.approx([0.04, 0.1, 0.5, 0.04])
    assert [int(image[0, 0, 2]) for image, *_ in frames] == [0, 100, 200, 250]


def test_animation_that_turns_into_a_bomb(odd: Path) -> None:
    with pytest.raises(InputError, match="more pixels than the limit"):
        next(read_frames(odd / "decompression_bomb_extents.gif"))


FORMATS: list[tuple[str, dict[str, object]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {}),
    ("GIF", {}),
    ("PPM", {}),
    ("ICO", {"sizes": [(64, 48)]}),
    ("AVIF", {}),
    ("JPEG2000", {}),
]


@pytest.mark.parametrize(("format", "options"), FORMATS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_cut_images_are_refused(format: str, options: dict[str, object], part: float) -> None:
    data = encoded(PIL.Image.fromarray(random_rgb(48, 64)), format, **options)
    assert read_image(data).shape == (48, 64, 3)
    with pytest.raises(InputError, match="damaged"):
        read_image(data[: int(part * len(data))])


def test_missing_empty_folder_text(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is no image\n" * 100)
    for name, reason in {
        "missing.jpg": "no such file; check the path",
        "empty.jpg": "the file is empty; copy or download it again",
        "text.jpg": UNKNOWN,
        ".": "a folder, not an image",
        "nul\0.jpg": "cannot be opened",
        "x" * 300: "cannot be opened",
    }.items():
        for read in (read_image, image_size):
            with pytest.raises(InputError, match=reason) as refusal:
                read(tmp_path / name)
            assert str(refusal.value).startswith(f"{tmp_path / name}: ")
            assert str(refusal.value).count("\n") == 0


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(PIL.Image.new("RGB", (2, 2)), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read anything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("yolofpn.data.images.open_regular_file", refuse)
    with pytest.raises(InputError, match=r"secret\.png: permission denied"):
        read_image(path)


def test_named_pipe(tmp_path: Path) -> None:
    """Nobody writes into it, so reading it would wait for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="a pipe"):
        read_image(path)


@pytest.mark.parametrize("size", [(1, 1), (20000, 10), (10, 20000)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    data = encoded(PIL.Image.new("RGB", size, "red"), "PNG")
    assert read_image(data).shape == (size[1], size[0], 3)


@pytest.mark.slow
def test_large_images_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Pillow only warns the image is read, in silence; our limit holds even where Pillow's is off."""
    data = encoded(PIL.Image.new("1", (9500, 9500)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(data) == (9500, 9500)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    bomb = png(MAX_PIXELS + 1, 1, 1, 0, b"")
    with pytest.raises(InputError, match="178,956,970"):
        read_image(bomb)


def test_names_in_messages() -> None:
    with pytest.raises(InputError, match="image of 3 bytes: "):
        read_image(b"abc")
    with pytest.raises(InputError, match="camera image: "):
        read_image(b"abc", name="camera image")


def test_pillow_images() -> None:
    rgb = random_rgb(3, 4)
    np.testing.assert_array_equal(to_bgr(PIL.Image.fromarray(rgb)), rgb[..., ::-1])
    with pytest.raises(InputError, match="no pixels"):
        to_bgr(PIL.Image.new("RGB", (0, 5)))
    cut = PIL.Image.open(io.BytesIO(encoded(PIL.Image.fromarray(rgb), "BMP")[:-10]))
    with pytest.raises(InputError, match=DAMAGED):
        to_bgr(cut)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_of_a_white_image_is_white(mode: str) -> None:
    pil_image = PIL.Image.new("RGB", (3, 2), "white").convert(mode)
    assert np.abs(to_bgr(pil_image).astype(int) - 255).max() <= 1


def test_a_mode_that_cannot_be_converted(tmp_path: Path) -> None:
    PIL.Image.new("LAB", (3, 2)).save(tmp_path / "lab.tif")
    with pytest.raises(InputError, match=r"lab\.tif: .*LAB"):
        read_image(tmp_path / "lab.tif")


def test_suffixes_are_lower_case_and_known_to_pillow() -> None:
    PIL.Image.init()
    assert set(PIL.Image.EXTENSION) >= IMAGE_SUFFIXES


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_a_frame_larger_than_the_limit_ends_an_animation_whatever_its_headers_say(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should Pillow read a file otherwise than ``read_header`` does, its canvas counts before it is decoded."""
    monkeypatch.setattr("yolofpn.data.images.read_header", lambda _data: None)
    file = io.BytesIO()
    frames = [PIL.Image.new("RGB", (8, 8), shade) for shade in ("red", "green", "blue")]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=100)
    data = file.getvalue()
    assert len(list(read_frames(data, max_pixels=64))) == 3

    def seek(pil_image: PIL.Image.Image, frame: int) -> None:
        original(pil_image, frame)
        if frame == 2:
            pil_image._size = (9, 8)

    with PIL.Image.open(io.BytesIO(data)) as opened:
        original = type(opened).seek
        monkeypatch.setattr(type(opened), "seek", seek)
    shown = read_frames(data, max_pixels=64)
    assert [next(shown)[0].shape for _ in range(2)] == [(8, 8, 3), (8, 8, 3)]
    with pytest.raises(InputError, match="more pixels than the limit of 64"):
        next(shown)
