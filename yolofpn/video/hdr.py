"""HDR and wide-gamut frames (HLG, PQ, BT.2020, Display P3) as an SDR camera would have given them: BT.709, 8 bits.

Light is worked out from the transfer function and shown relative to SDR white, which HDR standards put at 203 cd/m2
(ITU-R BT.2408); brighter highlights are clipped to white. HLG's system gamma of 1.2 is applied per channel, as the
chain from SDR cameras to SDR displays does. swscale's own conversion takes seconds for its first frame.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from yolofpn.structures import Image

_SDR_WHITE = 203.0  # cd/m2
_HLG_PEAK = 1000.0  # cd/m2
_GAMMA = 2.4  # of SDR displays (ITU-R BT.1886)
_ROWS = 1 << 16  # pixels worked on at once: these stay in the processor's cache
_PRIMARIES = {  # x and y of red, green and blue
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
WIDE = (ColorPrimaries.BT2020, ColorPrimaries.SMPTE432)


def sdr_bgr(frame: VideoFrame, size: tuple[int, int], converter: VideoReformatter) -> Image:
    """A frame with a transfer function of ``HDR`` or primaries of ``WIDE`` -> [H, W, 3] uint8, BGR.

    Args:
        frame: of any pixel format.
        size: (height, width) of the result.
        converter: does the part that is linear in the coded values.
    """
    height, width = size
    coded = converter.reformat(frame, width=width, height=height, format="rgb48le").to_ndarray()
    primaries = frame.color_primaries if frame.color_primaries in WIDE else ColorPrimaries.BT2020
    if frame.color_trc in HDR and frame.color_primaries == ColorPrimaries.BT709:
        primaries = ColorPrimaries.BT709
    light, to_bgr = _light(frame.color_trc), _to_bgr709(primaries)
    image = np.empty((height, width, 3), np.uint8)
    step = max(1, _ROWS // width)
    for top in range(0, height, step):
        linear = cv2.transform(cv2.LUT(coded[top : top + step], light), to_bgr)
        cv2.threshold(linear, 0, 0, cv2.THRESH_TOZERO, dst=linear)
        # A power by table; its index is the root, which keeps the steps of dark tones fine, cut at white.
        root = cv2.sqrt(linear, dst=linear)
        index = cv2.addWeighted(root, 65535, root, 0, 0, dtype=cv2.CV_16U)
        cv2.LUT(index, _encoded(), dst=image[top : top + step])
    return image


@cache
def _light(trc: int) -> NDArray[np.float32]:
    """[65536] light that a coded value stands for, 1 for SDR white."""
    value = np.arange(65536) / 65535
    if trc == ColorTrc.SMPTE2084:  # SMPTE ST 2084
        power = value ** (32 / 2523)
        part = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
        light = 10_000 / _SDR_WHITE * part ** (16384 / 2610)
    elif trc == ColorTrc.ARIB_STD_B67:  # ITU-R BT.2100, HLG
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        light = _HLG_PEAK / _SDR_WHITE * scene**1.2
    else:
        light = value**_GAMMA
    table: NDArray[np.float32] = light.astype(np.float32)
    return table


@cache
def _encoded() -> NDArray[np.uint8]:
    """[65536] coded SDR value of a square root of light."""
    table: NDArray[np.uint8] = (255 * (np.arange(65536) / 65535) ** (2 / _GAMMA)).round().astype(np.uint8)
    return table


@cache
def _to_bgr709(primaries: int) -> NDArray[np.float32]:
    """[3, 3] linear RGB of these primaries -> linear BGR of BT.709."""
    matrix = np.linalg.inv(_to_xyz(ColorPrimaries.BT709)) @ _to_xyz(ColorPrimaries(primaries))
    bgr: NDArray[np.float32] = matrix[::-1].astype(np.float32)
    return bgr


def _to_xyz(primaries: ColorPrimaries) -> NDArray[np.float64]:
    corners = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _PRIMARIES[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    xyz: NDArray[np.float64] = corners * np.linalg.solve(corners, white)
    return xyz
