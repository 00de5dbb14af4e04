import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from yolofpn.config import ResizeMode
from yolofpn.ops.resize import Placement, resize_for_detection, resize_image
from yolofpn.structures import Image

MODES: tuple[ResizeMode, ...] = ("letterbox", "stretch", "shortest-edge")
image_side = st.integers(1, 4096)
network_side = st.integers(1, 40).map(lambda cells: 32 * cells)


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blank(height: int, width: int) -> Image:
    # All pixels are one byte of memory: a large image costs nothing.
    return np.broadcast_to(np.zeros(1, dtype=np.uint8), (height, width, 3))


@pytest.mark.parametrize(
    ("image_size", "network_size", "resized", "top_left"),
    [
        # 768 x 576 into 416: width is the limit, 576 * 416 // 768 = 312 rows, (416 - 312) // 2 = 52 above.
        ((576, 768), (416, 416), (312, 416), (52, 0)),
        ((768, 576), (416, 416), (416, 312), (0, 52)),
        # 416 * 427 // 640 = 277 rows (277.55 rounds down), 139 rows of padding: 69 above, 70 below.
        ((427, 640), (416, 416), (277, 416), (69, 0)),
        ((416, 416), (416, 416), (416, 416), (0, 0)),
        # Small images grow.
        ((10, 20), (320, 640), (320, 640), (0, 0)),
        # 640 / 500 < 352 / 200, so 200 * 640 // 500 = 256 rows, 48 above.
        ((200, 500), (352, 640), (256, 640), (48, 0)),
        # A line: 1 * 416 // 4000 = 0 rows become 1, (416 - 1) // 2 = 207 above.
        ((1, 4000), (416, 416), (1, 416), (207, 0)),
        ((4000, 1), (416, 416), (416, 1), (0, 207)),
    ],
)
def test_letterbox_has_darknets_sizes_and_offsets(
    image_size: tuple[int, int], network_size: tuple[int, int], resized: tuple[int, int], top_left: tuple[int, int]
) -> None:
    image = noise(*image_size)
    result, placement = resize_image(image, network_size, "letterbox")
    top, left = top_left
    height, width = resized
    assert placement == Placement(width / image_size[1], height / image_size[0], left, top, image_size, network_size)
    assert result.shape == (*network_size, 3)
    content = result[top : top + height, left : left + width]
    assert np.array_equal(content, cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    padding = np.ones(network_size, dtype=bool)
    padding[top : top + height, left : left + width] = False
    assert (result[padding] == 128).all()


def test_stretch_fills_the_network() -> None:
    image = noise(30, 50)
    result, placement = resize_image(image, (60, 25), "stretch")
    assert np.array_equal(result, cv2.resize(image, (25, 60), interpolation=cv2.INTER_LINEAR))
    assert placement == Placement(0.5, 2.0, 0, 0, (30, 50), (60, 25))


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        ((480, 640), (600, 800)),
        ((640, 480), (800, 600)),
        # 600 / 300 = 2 would make 1400: the longer side decides, 1000 / 700 * 300 = 428.57, rounded down.
        ((300, 700), (428, 1000)),
        ((2400, 3200), (600, 800)),
        ((2, 5000), (1, 1000)),
    ],
)
def test_shortest_edge_sizes(image_size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = noise(*image_size)
    result, placement = resize_image(image, (600, 1000), "shortest-edge")
    assert result.shape == (*expected, 3)
    assert placement.network_size == expected
    assert (placement.offset_x, placement.offset_y) == (0, 0)
    assert placement.scale_x == expected[1] / image_size[1]
    assert placement.scale_y == expected[0] / image_size[0]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200), st.integers(1, 300))
def test_shortest_edge_keeps_its_word(height: int, width: int, shorter: int, longer: int) -> None:
    result, _ = resize_image(blank(height, width), (shorter, longer), "shortest-edge")
    assert min(result.shape[:2]) <= shorter and max(result.shape[:2]) <= longer
    # The product of a side and its scale may be a hair below a whole number.
    assert min(result.shape[:2]) >= shorter - 1 or max(result.shape[:2]) >= longer - 1


def test_for_detection_only_the_shortest_edge_is_not_rounded() -> None:
    image = noise(48, 64)
    for mode in MODES:
        whole, placement = resize_image(image, (64, 96), mode)
        exact, same_placement = resize_for_detection(image, (64, 96), mode)
        assert exact.dtype == (np.float32 if mode == "shortest-edge" else np.uint8)
        assert placement == same_placement
        assert np.abs(exact.astype(np.float64) - whole).max() <= (1.0 if mode == "shortest-edge" else 0)


def test_the_exact_shortest_edge_is_bilinear_between_pixel_centres() -> None:
    image = noise(31, 47)
    exact, _ = resize_for_detection(image, (80, 133), "shortest-edge")
    assert exact.shape == (80, 121, 3)  # 80 / 31 * 47 = 121.29
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = F.interpolate(pixels, size=(80, 121), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    assert np.abs(exact - expected.numpy()).max() < 1e-3
    assert np.abs(exact - np.rint(exact)).max() > 0.4


def test_a_mark_is_found_where_its_box_says() -> None:
    image = np.zeros((300, 500, 3), dtype=np.uint8)
    image[90:150, 200:320] = 255
    box = torch.tensor([[200.0, 90.0, 320.0, 150.0]])
    for mode in MODES:
        result, placement = resize_image(image, (128, 192), mode)
        rows, columns = np.nonzero(result[:, :, 0] > 200)
        found = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        assert (placement.to_network(box) - found).abs().max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@given(image_side, image_side, network_side, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
@settings(max_examples=50)
def test_to_image_undoes_to_network(mode: ResizeMode, height: int, width: int, side: int, place: list[float]) -> None:
    image = blank(height, width)
    _, placement = resize_image(image, (side, side), mode)
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.float64, 1e-9)):
        boxes = torch.tensor([place], dtype=dtype) * torch.tensor([width, height, width, height])
        np.testing.assert_allclose(placement.to_image(placement.to_network(boxes)), boxes, atol=tolerance, rtol=0)


@given(st.integers(4097, 10**6), st.integers(4097, 10**6), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_to_image_undoes_to_network_on_giant_images(height: int, width: int, place: list[float]) -> None:
    placement = Placement(416 / width, 312 / height, 0, 52, (height, width), (416, 416))
    boxes = torch.tensor([place], dtype=torch.float64) * torch.tensor([width, height, width, height])
    restored = placement.to_image(placement.to_network(boxes))
    np.testing.assert_allclose(restored, boxes, atol=1e-6 * max(height, width), rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_whole_image_maps_to_what_shows_it(mode: ResizeMode) -> None:
    _, placement = resize_image(blank(427, 640), (320, 416), mode)
    left, top, right, bottom = placement.to_network(torch.tensor([0.0, 0.0, 640.0, 427.0])).tolist()
    assert (left, top) == (placement.offset_x, placement.offset_y)
    # Padding may be one pixel thicker right and below.
    assert 0 <= placement.network_size[1] - right - left <= 1
    assert 0 <= placement.network_size[0] - bottom - top <= 1


def test_to_image_clips_to_the_image() -> None:
    _, placement = resize_image(blank(576, 768), (416, 416), "letterbox")
    boxes = torch.tensor([[[-9.0, 0.0, 500.0, 416.0]], [[10.0, 0.0, 20.0, 40.0]]])
    expected = torch.tensor([[[0.0, 0.0, 768.0, 576.0]], [[10 * 768 / 416, 0.0, 20 * 768 / 416, 0.0]]])
    np.testing.assert_allclose(placement.to_image(boxes), expected, rtol=1e-6)
    assert placement.to_image(torch.empty(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("mode", MODES)
def test_memory_layout_does_not_matter(mode: ResizeMode) -> None:
    image = noise(40, 60)
    flipped = image[::-1, ::2, ::-1]
    expected, _ = resize_image(np.ascontiguousarray(flipped), (32, 64), mode)
    assert np.array_equal(resize_image(flipped, (32, 64), mode)[0], expected)


@pytest.mark.parametrize("mode", MODES)
def test_result_shares_no_memory_with_the_image(mode: ResizeMode) -> None:
    image = noise(32, 32)
    result, _ = resize_image(image, (32, 32), mode)
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float64),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
)
def test_other_arrays_are_refused(image: Image) -> None:
    with pytest.raises(ValueError, match="image must be uint8"):
        resize_image(image, (32, 32), "letterbox")


def test_other_sizes_and_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        resize_image(blank(4, 4), (32, 0), "letterbox")
    with pytest.raises(ValueError, match="pad"):
        resize_image(blank(4, 4), (32, 32), "pad")  # type: ignore[arg-type]
