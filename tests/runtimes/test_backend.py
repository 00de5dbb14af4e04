from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.runtimes.fakes import MeanBackend, shades
from yolofpn.runtimes.backend import InChunks, as_floats, as_uint8


def test_larger_batches_go_in_parts_and_come_back_as_one() -> None:
    inner = MeanBackend()
    chunks = InChunks(inner, 2)
    assert (chunks.name, chunks.precision, chunks.slots) == ("mean", "fp32", 3)
    assert chunks.start(shades(1, 2, 3, 4, 5))()["mean"].flatten().tolist() == [1, 2, 3, 4, 5]
    assert inner.batches == [2, 2, 1]


@pytest.mark.parametrize("value", [0.0, 12.4, 12.6, 255.0])
def test_float_images_are_rounded(value: float) -> None:
    given = torch.full((1, 3, 2, 4), value).to(memory_format=torch.channels_last)
    taken = as_uint8(given)
    assert taken.dtype == np.uint8 and taken.flags.c_contiguous
    assert set(taken.flatten().tolist()) == {round(value)}


def test_bands_stay_as_they_are_where_a_graph_knows_no_bytes() -> None:
    bands = np.array([[[[-3.25, 0.5, 300.75]]]], np.float32)
    for unit in (False, True):
        np.testing.assert_array_equal(as_floats(bands, unit=unit), bands)
    taken = as_floats(torch.tensor([0, 51, 255], dtype=torch.uint8), unit=True)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, [0, 0.2, 1])
    np.testing.assert_array_equal(as_floats(np.array([0, 51, 255], np.uint8), unit=False), [0, 51, 255])
