"""``detect.py --depth``: images of more than 8 bits, whose files rarely say which value is white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
import pytest
from numpy.typing import NDArray

from tests.commands import call
from yolofpn.cli import detect as command
from yolofpn.data import depth as depth_module
from yolofpn.data.images import read_image

pytestmark = pytest.mark.usefixtures("in_own_folder")
STEPS = np.tile(np.repeat(np.linspace(0, 1, 16), 4), (48, 1))  # [48, 64] sixteen tones from black to white
AS_BYTES = np.round(255 * STEPS)
Read: TypeAlias = Callable[..., NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth_module, "_warned", set())


@pytest.fixture
def read(weights: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Read:
    """What detect.py writes for an image, [H, W, 3]; what it logs is in ``caplog``."""

    def run(name: str, *flags: object) -> NDArray[np.uint8]:
        words = [name, *flags, "--weights", weights, "--backend", "torch", "--score-thresh", "1", "--output", "out"]
        outcome = call(command.main, capsys, *words)
        assert outcome.code == 0
        written = next(path for path in Path("out").iterdir() if path.stem == Path(name).stem)
        image = cv2.imread(str(written), cv2.IMREAD_COLOR)
        assert image is not None
        return image.astype(np.uint8)

    return run


def save_floats(name: str, white: float) -> None:
    PIL.Image.fromarray((white * STEPS).astype(np.float32)).save(name)


def save_16(name: str, white: int, *, colour: bool = False) -> None:
    values = np.round(white * STEPS).astype(np.uint16)
    cv2.imwrite(name, np.dstack([values] * 3) if colour else values)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floats_by_their_largest_value(white: float, read: Read) -> None:
    save_floats("a.tif", white)
    np.testing.assert_allclose(read("a.tif")[:, :, 0], AS_BYTES, atol=1)


@pytest.mark.parametrize("flag", ["12", "16", "minmax"])
def test_floats_of_a_named_depth(flag: str, read: Read) -> None:
    save_floats("a.tif", {"12": 4095.0, "16": 65535.0, "minmax": 0.003}[flag])
    np.testing.assert_allclose(read("a.tif", "--depth", flag)[:, :, 0], AS_BYTES, atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("white", "flag"), [(4095, "12"), (65535, "16"), (65535, "auto"), (900, "minmax")])
def test_sixteen_bits(name: str, colour: bool, white: int, flag: str, read: Read) -> None:
    save_16(name, white, colour=colour)
    image = read(name, "--depth", flag)
    for channel in range(3):
        np.testing.assert_allclose(image[:, :, channel], AS_BYTES, atol=1)


def test_twelve_bits_that_the_file_states(read: Read) -> None:
    tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095  # MaxSampleValue
    PIL.Image.fromarray(np.round(4095 * STEPS).astype(np.uint16)).save("a.tif", tiffinfo=tags)
    np.testing.assert_allclose(read("a.tif")[:, :, 0], AS_BYTES, atol=1)


def test_eight_bits_are_left_alone(read: Read) -> None:
    cv2.imwrite("a.png", (AS_BYTES / 4).astype(np.uint8))
    np.testing.assert_array_equal(read("a.png", "--depth", "minmax")[:, :, 0], (AS_BYTES / 4).astype(np.uint8))


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (np.round(4095 * STEPS).astype(np.uint16), "--depth 12"),
        (np.full((8, 8), 90_000, np.float32), "--depth minmax"),
        (np.full((8, 8), 3, np.uint16), "--depth minmax"),
    ],
)
def test_an_image_nearly_black_or_white_is_reported(values: Any, hint: str, read: Read, caplog: Any) -> None:
    PIL.Image.fromarray(values).save("a.tif")
    read("a.tif")
    (record,) = caplog.records
    assert "a.tif" in record.getMessage()
    assert record.getMessage().endswith(hint)


def test_a_normal_image_is_not(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    save_16("a.png", 65535)
    read("a.png")
    assert not caplog.records


def test_infinite_and_negative_floats() -> None:
    values = np.array([[np.nan, -np.inf, -5.0, 0.0, 5.0, np.inf]], np.float32)
    PIL.Image.fromarray(values).save("a.tif")
    assert read_image("a.tif", depth="minmax")[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255]
