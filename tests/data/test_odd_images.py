"""Odd images of Pillow's own tests: each is read in its size, or refused with the right reason."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from yolofpn.data.images import image_size, read_image
from yolofpn.errors import InputError

DAMAGED, UNKNOWN, TOO_LARGE = "damaged or cut off", "not an image of a known format", "more pixels than the limit"

# (height, width) of the upright image, or why it is refused.
ODD: dict[str, tuple[int, int] | str] = {
    "16bit.cropped.tif": (64, 64),
    "apng_mode_16bit.png": (64, 128),
    "avif_hopper.avif": (128, 128),
    "avif_rot1mir0.avif": (427, 640),
    "bmp_b_badwidth.bmp": TOO_LARGE,
    "bmp_b_reallybig.bmp": TOO_LARGE,
    "bmp_b_shortfile.bmp": DAMAGED,
    "bmp_g_pal8nonsquare.bmp": (32, 127),
    "broken.png": UNKNOWN,
    "broken_data_stream.png": DAMAGED,
    "broken_exif_dpi.jpg": (100, 100),
    "decompression_bomb.gif": TOO_LARGE,
    "decompression_bomb.ico": TOO_LARGE,
    "decompression_bomb_extents.gif": "more pixels",  # of its second frame
    "exif_imagemagick_orientation.png": (512, 512),
    "exif_typeerror.jpg": (531, 800),
    "flower.webp": (360, 480),
    "hopper.bmp": (128, 128),
    "hopper.gif": (128, 128),
    "hopper.ico": (16, 16),
    "hopper.jpg": (128, 128),
    "hopper.tif": (128, 128),
    "hopper.webp": (128, 128),
    "hopper_16bit.pgm": (128, 128),
    "hopper_16bit_qtables.jpg": (128, 128),
    "hopper_bad_exif.jpg": (500, 500),
    "hopper_gray.jpg": (128, 128),
    "hopper_orientation_2.jpg": (128, 128),
    "hopper_orientation_3.jpg": (128, 128),
    "hopper_orientation_4.jpg": (128, 128),
    "hopper_orientation_5.jpg": (128, 128),
    "hopper_orientation_6.jpg": (128, 128),
    "hopper_orientation_6.webp": (128, 128),
    "hopper_orientation_7.jpg": (128, 128),
    "hopper_orientation_8.jpg": (128, 128),
    "i_trns.png": (64, 64),
    "icc_profile_big.jpg": (250, 425),
    "invalid-exif.jpg": (200, 200),
    "iss634.gif": (245, 245),
    "iss634.webp": (245, 245),
    "jpeg_ff00_header.jpg": (225, 300),
    "junk_jpeg_header.jpg": (768, 1024),
    "l_trns.png": (64, 64),
    "linear_gradient.png": (256, 256),
    "multipage.tiff": (10, 10),
    "negative_size.ppm": UNKNOWN,
    "orientation_rectangle.jpg": (2, 1),
    "p_trns_single.png": (64, 64),
    "pil123p.png": (150, 162),
    "pil123rgba.png": (150, 162),
    "pil_sample_cmyk.jpg": (100, 100),
    "pil_sample_rgb.jpg": (100, 100),
    "png_decompression_dos.png": DAMAGED,
    "pngtest_bad.png.bin": UNKNOWN,
    "rgb.jpg": (100, 100),
    "rgb_trns.png": (64, 64),
    "sugarshack.mpo": (480, 640),
    "tRNS_null_1x1.png": (1, 1),
    "test-card.png": (480, 640),
    "tiff_16bit_RGB.tiff": (40, 100),
    "timeout-6646305047838720": DAMAGED,
    "transparent.gif": (150, 200),
    "transparent.png": (150, 200),
    "transparent.webp": (150, 200),
    "truncated_app14.jpg": (100, 100),
    "truncated_end_chunk.png": DAMAGED,
    "truncated_image.png": DAMAGED,
    "truncated_jpeg.jpg": DAMAGED,
    "ultrahdr.jpg": DAMAGED,  # its pixels end after the first rows
    "uncompressed_la.png": (128, 128),
    "unknown_compression_method.png": UNKNOWN,
    "xmp_test.jpg": (1072, 2000),
}


def test_every_odd_file_has_an_expected_outcome(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} - {"LICENSE"} == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_odd_file(odd: Path, name: str) -> None:
    expected = ODD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if isinstance(expected, str):
            with pytest.raises(InputError, match=expected) as refusal:
                read_image(odd / name)
            assert str(refusal.value).startswith(f"{odd / name}: ")
            return
        image = read_image(odd / name)
        assert image.shape == (*expected, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image_size(odd / name) == expected
