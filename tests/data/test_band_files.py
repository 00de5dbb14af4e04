"""Values of image files with any number of channels and any numbers, as other programs wrote them."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from yolofpn.bands import Bands
from yolofpn.data import band_files
from yolofpn.data.image_inputs import as_bgr
from yolofpn.data.images import UnknownImageError, image_size, read_image, read_native
from yolofpn.errors import InputError
from yolofpn.sources.kinds import decode_image

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


def with_orientation(png: bytes, orientation: int) -> bytes:
    """A PNG with EXIF data behind its header."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_lying_image_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    lying = deep(4, 6, 3)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's numbers of the transpositions
    planes = [PIL.Image.fromarray(lying[:, :, band].astype(np.int32)) for band in range(3)]
    turned = [plane if orientation == 1 else plane.transpose(turn[orientation]) for plane in planes]  # type: ignore[arg-type]
    expected = np.stack([np.asarray(plane) for plane in turned], axis=2)
    tag = [(274, "H", 1, orientation, True)]
    for name, values in (("gray", lying[:, :, 0]), ("colours", lying[:, :, ::-1])):
        png = cv2.imencode(".png", values)[1].tobytes()
        (tmp_path / f"{name}.png").write_bytes(with_orientation(png, orientation))
    tifffile.imwrite(tmp_path / "gray.tif", lying[:, :, 0], extratags=tag)
    tifffile.imwrite(tmp_path / "colours.tif", lying, photometric="rgb", extratags=tag)
    tifffile.imwrite(tmp_path / "bands.tif", lying, photometric="minisblack", planarconfig="contig", extratags=tag)
    for name in ("gray.png", "colours.png", "gray.tif", "colours.tif", "bands.tif"):
        wanted = expected[:, :, 0] if name.startswith("gray") else expected
        np.testing.assert_array_equal(read_native(tmp_path / name), wanted, err_msg=name)
        assert image_size(tmp_path / name) == expected.shape[:2], name


def test_many_samples_per_pixel_are_read_with_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = deep(9, 7, 6)
    tifffile.imwrite(tmp_path / "last.tif", values, photometric="minisblack", planarconfig="contig")
    planes = values.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="minisblack", planarconfig="separate")
    for stem in ("last", "planes"):
        np.testing.assert_array_equal(read_native(tmp_path / f"{stem}.tif", 6), values)
        assert image_size(tmp_path / f"{stem}.tif") == (9, 7)
        with pytest.raises(UnknownImageError, match=r"input\.channels=6"):
            read_image(tmp_path / f"{stem}.tif")
    np.save(tmp_path / "three.npy", values[:, :, :3])
    with pytest.raises(UnknownImageError, match=r"input\.range"):
        read_image(tmp_path / "three.npy")
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


def test_a_tiff_is_read_from_its_own_file_only(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pages = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstC="{band}"><UUID FileName="{name}.ome.tif">urn:uuid:{band}</UUID>'
        "</TiffData>"
        for band, name in enumerate("ab")
    )
    channels = "".join(f'<Channel ID="Channel:0:{band}" SamplesPerPixel="2"/>' for band in range(2))
    description = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
        ' UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="7"'
        f' SizeY="9" SizeC="4" SizeZ="1" SizeT="1">{channels}{pages}</Pixels></Image></OME>'
    )
    own, other = deep(9, 7, 2), deep(9, 7, 2)
    for name, values in (("a", own), ("b", other)):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            values,
            ome=False,
            photometric="minisblack",
            planarconfig="contig",
            metadata=None,
            description=description.replace("uuid:0", f"uuid:{'ab'.index(name)}", 1),
        )
    np.testing.assert_array_equal(read_native(tmp_path / "a.ome.tif"), own)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [3, 4, 5, 6])
def test_colours_with_further_samples_or_planes_lose_nothing(
    tmp_path: Path, samples: int, dtype: type, planar: str, compression: str | None
) -> None:
    tifffile = pytest.importorskip("tifffile")
    values: np.ndarray = deep(9, 7, samples).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        values if planar == "contig" else values.transpose(2, 0, 1),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=[0] * (samples - 3),
        compression=compression,
    )
    found = read_native(tmp_path / "a.tif", samples)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_big_endian_numbers_have_the_range_of_their_type(tmp_path: Path) -> None:
    values = deep(9, 7)
    np.save(tmp_path / "a.npy", values.astype(">u2"))
    expected = Bands(1).read_values(values, "a")
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", depth=Bands(1)), expected)
    np.testing.assert_array_equal(as_bgr(values.astype(">u2"), depth=Bands(1)), expected)
    assert read_native(tmp_path / "a.npy").dtype == np.uint16


def test_pages_of_other_sizes_are_no_bands(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    large, overview = deep(8, 6), deep(4, 3)
    PIL.Image.fromarray(large).save(tmp_path / "a.tif", save_all=True, append_images=[PIL.Image.fromarray(overview)])
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif"), large)
    five = deep(8, 6, 5)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for values in (five, five[::2, ::2]):
            writer.write(values, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_native(tmp_path / "b.tif"), five)


def test_too_many_pages_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [PIL.Image.fromarray(deep(8, 6)) for _ in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setattr(band_files, "MAX_BAND_BYTES", 3 * 8 * 6 * 4)
    with pytest.raises(InputError, match="limit"):
        read_native(tmp_path / "a.tif")
    assert read_native(tmp_path / "a.tif", 1).shape == (8, 6)


def test_the_layout_of_an_array_is_that_of_the_wanted_channels(tmp_path: Path) -> None:
    values = deep(64, 96, 128)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_native(tmp_path / "a.npy", 128), values)
    assert image_size(tmp_path / "a.npy", channels=128) == (64, 96)
    frame = decode_image(tmp_path / "a.npy", "a", Bands(128), None, lambda pixels: None)
    assert frame.size == frame.image.shape[:2] == (64, 96)


def test_gray_with_alpha_of_16_bits_has_two_channels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = deep(5, 4, 2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n"
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 4, 5, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    for kind, content in chunks:
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "a.png").write_bytes(png)
    np.testing.assert_array_equal(read_native(tmp_path / "a.png"), values)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_native(tmp_path / "a.tif"), values)


def test_only_whole_tiffs_ask_for_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", deep(5, 4, 6), photometric="minisblack", planarconfig="contig")
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:20])
    monkeypatch.setattr(band_files, "is_installed", lambda _: False)
    for read in (image_size, read_native, read_image):
        with pytest.raises(InputError, match="tifffile"):
            read(tmp_path / "a.tif")
        with pytest.raises(UnknownImageError):
            read(tmp_path / "b.tif")
