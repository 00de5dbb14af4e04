import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ExifTags

from yolofpn.data.images import read_image
from yolofpn.data.reduced_images import read_reduced, reduction
from yolofpn.errors import InputError


def jpeg(width: int, height: int, *, mode: str = "RGB", orientation: int = 1, progressive: bool = False) -> bytes:
    """A smooth image, of which a reduced one is nearly the mean of its pixels."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    image = PIL.Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8)).convert(mode)
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif, progressive=progressive)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("size", "needed", "factor"),
    [
        ((3000, 4000), (624, 832), 4),
        ((3000, 4000), (1500, 2000), 2),
        ((3000, 4000), (1501, 2000), 1),
        ((3000, 4000), (10, 10), 8),
        ((8, 8), (1, 1), 8),
        ((7, 9), (1, 2), 4),
        ((100, 100), (200, 200), 1),
    ],
)
def test_never_smaller_than_needed(size: tuple[int, int], needed: tuple[int, int], factor: int) -> None:
    assert reduction(size, needed) == factor


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("orientation", "side"), [(1, 203), (3, 204), (6, 204), (7, 204)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_image_shows_the_whole_one(mode: str, orientation: int, side: int, progressive: bool) -> None:
    data = jpeg(side, 104, mode=mode, orientation=orientation, progressive=progressive)
    whole = read_image(data)
    asked: list[tuple[int, int]] = []
    admitted: list[int] = []

    def needed(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return size[0] // 4, size[1] // 4

    reduced = read_reduced(data, needed, name="x.jpg", admit=admitted.append)
    assert asked == [whole.shape[:2]]
    assert reduced.size == whole.shape[:2]
    assert reduced.factor == 4
    assert reduced.image.shape == (-(-whole.shape[0] // 4), -(-whole.shape[1] // 4), 3)
    # A progressive image is decoded from all of its coefficients, of two bytes each.
    assert admitted == [26 * 51 + (2 * side * 104 if progressive else 0)]
    height, width = (side // 4 for side in whole.shape[:2])
    means = whole[: height * 4, : width * 4].reshape(height, 4, width, 4, 3).mean(axis=(1, 3))
    assert np.abs(means - reduced.image[:height, :width]).max() < 8


def test_a_turned_image_is_reduced_by_divisors_of_its_sides_only() -> None:
    assert read_reduced(jpeg(204, 102, orientation=6), lambda size: (25, 25), name="x.jpg").factor == 2
    assert read_reduced(jpeg(203, 101, orientation=6), lambda size: (25, 25), name="x.jpg").factor == 1
    assert read_reduced(jpeg(203, 101), lambda size: (25, 25), name="x.jpg").factor == 4


@pytest.mark.parametrize(("width", "height"), [(20, 8000), (8000, 20), (17, 2000), (9, 16)])
def test_narrow_images_are_reduced_by_a_power_of_two(width: int, height: int) -> None:
    reduced = read_reduced(jpeg(width, height), lambda size: (1, 1), name="x.jpg")
    assert (reduced.factor, reduced.size) == (8, (height, width))
    assert reduced.image.shape == (-(-height // 8), -(-width // 8), 3)


def test_others_are_read_whole(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (80, 40), "red").save(tmp_path / "x.png")
    reduced = read_reduced(tmp_path / "x.png", lambda size: (1, 1), name="x.png")
    assert (reduced.size, reduced.factor, reduced.image.shape) == ((40, 80), 1, (40, 80, 3))
    PIL.Image.fromarray(np.full((40, 80), 40_000, np.uint16)).save(tmp_path / "x.tif")
    deep = read_reduced(tmp_path / "x.tif", lambda size: (1, 1), name="x.tif", depth="16")
    assert (deep.factor, deep.image.shape, int(deep.image[0, 0, 0])) == (1, (40, 80, 3), 156)
    assert read_reduced(jpeg(80, 40), None, name="x.jpg").factor == 1


def test_a_truncated_image_is_a_failure() -> None:
    data = jpeg(400, 400)
    with pytest.raises(InputError):
        read_reduced(data[: len(data) // 2], lambda size: (50, 50), name="x.jpg")
