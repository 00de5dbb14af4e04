import pytest
import torch

from tests.models.cases import SIZE, SPECS, random_maps
from yolofpn.models.box_coder import yolo_box_to_xyxy
from yolofpn.models.heads.predictions import flatten_maps, make_grid
from yolofpn.models.postprocess import MapSpec


def test_the_order_is_level_anchor_row_column() -> None:
    num_classes = 3
    maps = random_maps(SPECS, num_classes, SIZE, batch=2)
    raw, grid = flatten_maps(maps, SPECS)
    n = 0
    for name, spec in SPECS.items():
        _, _, height, width = maps[name].shape
        for anchor in range(len(spec.anchors)):
            for row in range(height):
                for column in range(width):
                    first = anchor * (5 + num_classes)
                    assert torch.equal(raw[:, n], maps[name][:, first : first + 5 + num_classes, row, column])
                    assert grid.cells[n].tolist() == [column, row]
                    assert grid.anchors[n].tolist() == list(spec.anchors[anchor])
                    assert grid.strides[n].tolist() == [spec.stride]
                    n += 1
    assert raw.shape == (2, n, 5 + num_classes)
    assert n == len(grid.cells) == len(grid.anchors) == len(grid.strides) == 2 * (4 * 6 + 2 * 3)


def test_each_shape_knows_its_first_prediction_and_its_map() -> None:
    grid = make_grid(list(SPECS.values()), [(4, 6), (2, 3)])
    assert grid.shapes.tolist() == [[10, 14], [24, 20], [60, 40], [50, 70]]
    assert grid.shape_starts.tolist() == [0, 24, 48, 54]
    assert grid.shape_maps.tolist() == [[6, 4], [6, 4], [3, 2], [3, 2]]
    assert torch.equal(grid.anchors[grid.shape_starts], grid.shapes)


@pytest.mark.parametrize("linear", [False, True])
def test_decoding_all_and_decoding_some_agree(linear: bool) -> None:
    specs = {name: MapSpec(spec.stride, spec.anchors, 1.5, linear_xy=linear) for name, spec in SPECS.items()}
    raw, grid = flatten_maps(random_maps(specs, 1, SIZE), specs)
    boxes = grid.decode(raw[0, :, :4])
    some = torch.tensor([50, 3, 27])
    torch.testing.assert_close(grid.decode(raw[0, some, :4], some), boxes[some])
    for n in some.tolist():
        expected = yolo_box_to_xyxy(
            raw[0, n, :4], grid.anchors[n], grid.cells[n], int(grid.strides[n]), 1.5, linear_xy=linear
        )
        torch.testing.assert_close(boxes[n], expected)


def test_half_precision_maps_in_any_memory_format_become_float32() -> None:
    maps = random_maps(SPECS, 1, SIZE, batch=2)
    halves = {name: m.bfloat16().to(memory_format=torch.channels_last) for name, m in maps.items()}
    raw, _ = flatten_maps(halves, SPECS)
    assert raw.dtype == torch.float32
    torch.testing.assert_close(raw, flatten_maps(maps, SPECS)[0], rtol=1e-2, atol=1e-2)
