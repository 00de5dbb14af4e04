"""Values of image files with any number of channels and any numbers, as other programs wrote them."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from yolofpn.bands import Bands
from yolofpn.data import band_files
from yolofpn.data.images import image_size, read_image, read_native
from yolofpn.errors import InputError

RNG = np.random.default_rng(0)


def deep(*shape: int) -> np.ndarray:
    """Values of 16 bits, none of which survives a reduction to 8."""
    return RNG.integers(0, 65536, shape, dtype=np.uint16)


def test_one_channel_of_16_bits_keeps_all_bits_in_every_format(tmp_path: Path) -> None:
    values = deep(9, 7)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    PIL.Image.fromarray(values).save(tmp_path / "a.tif")
    cv2.imwrite(str(tmp_path / "a.pgm"), values)
    np.save(tmp_path / "a.npy", values)
    for suffix in ("png", "tif", "pgm", "npy"):
        np.testing.assert_array_equal(read_native(tmp_path / f"a.{suffix}"), values, err_msg=suffix)
        assert image_size(tmp_path / f"a.{suffix}") == (9, 7)


def test_16_bit_colours_and_fourth_bands_keep_their_order(tmp_path: Path) -> None:
    for channels in (3, 4):
        values = deep(9, 7, channels)
        order = [2, 1, 0, 3][:channels]
        for suffix in ("png", "tif"):
            cv2.imwrite(str(tmp_path / f"{channels}.{suffix}"), values[:, :, order])
            np.testing.assert_array_equal(read_native(tmp_path / f"{channels}.{suffix}", channels), values)


def test_pages_of_a_tiff_are_bands_if_so_many_are_wanted(tmp_path: Path) -> None:
    values = deep(9, 7, 3)
    first, *others = (PIL.Image.fromarray(values[:, :, band]) for band in range(3))
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif", 3), values)
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif"), values)
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif", 1), values[:, :, 0])
    with pytest.raises(InputError, match="1 channel"):
        read_image(tmp_path / "a.tif", depth=Bands(5))


def test_arrays_with_channels_first_and_last_are_the_same_image(tmp_path: Path) -> None:
    values = deep(9, 7, 5)
    np.save(tmp_path / "last.npy", values)
    np.save(tmp_path / "first.npy", values.transpose(2, 0, 1))
    for stem in ("last", "first"):
        np.testing.assert_array_equal(read_native(tmp_path / f"{stem}.npy", 5), values)
        assert image_size(tmp_path / f"{stem}.npy") == (9, 7)


def test_a_lying_image_is_turned_upright(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_native(tmp_path / "a.png"), np.rot90(values, -1))


def test_many_samples_per_pixel_are_read_with_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = deep(9, 7, 6)
    tifffile.imwrite(tmp_path / "last.tif", values, photometric="minisblack", planarconfig="contig")
    planes = values.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="minisblack", planarconfig="separate")
    for stem in ("last", "planes"):
        np.testing.assert_array_equal(read_native(tmp_path / f"{stem}.tif", 6), values)
        assert image_size(tmp_path / f"{stem}.tif") == (9, 7)
    floats = RNG.random((9, 7, 2), dtype=np.float32)
    tifffile.imwrite(tmp_path / "floats.tif", floats, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_native(tmp_path / "floats.tif"), floats)
    monkeypatch.setattr(band_files, "is_installed", lambda _: False)
    with pytest.raises(InputError, match="tifffile"):
        read_native(tmp_path / "last.tif")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x10\x00not a header....",
        b"II*\0\x08\0\0\0\xff\xff",
        b"\x93NUMPY\x09\x09\x00\x00",
    ],
)
def test_damaged_files_are_input_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npy"):
        read_native(path)
    with pytest.raises(InputError, match=r"bad\.npy"):
        image_size(path)


def test_objects_and_strange_shapes_are_refused(tmp_path: Path) -> None:
    for number, array in enumerate((np.array([{"a": 1}]), np.zeros((2, 2, 2, 2)), np.zeros((0, 3)))):
        np.save(tmp_path / f"{number}.npy", array)
        with pytest.raises(InputError):
            read_native(tmp_path / f"{number}.npy")


def test_an_image_that_says_it_is_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    with (tmp_path / "huge.npy").open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (60_000, 60_000)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match="limit"):
        read_native(tmp_path / "huge.npy")


def test_a_cut_off_array_is_refused_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    with (tmp_path / "cut.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10_000, 10_000)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match="cut off"):
        read_native(tmp_path / "cut.npy")


def test_a_wrong_number_of_channels_names_file_has_and_wants(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError) as raised:
        read_image(tmp_path / "rgb.png", depth=Bands(1))
    assert all(part in str(raised.value) for part in ("rgb.png", "3 channels", "takes 1"))
