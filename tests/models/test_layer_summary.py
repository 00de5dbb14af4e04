from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.small import small_config, small_model
from yolofpn.config import load_config
from yolofpn.models.build import build_model
from yolofpn.models.layer_summary import LayerRow, format_rows, layer_rows, stored_numbers

CFG = Path(__file__).parents[2] / "cfg"


def rows_of(name: str, size: tuple[int, int]) -> list[LayerRow]:
    config = load_config(CFG / f"{name}.yaml")
    with torch.device("meta"):
        model = build_model(config.model, 80, config.input, config.postprocess)
    rows = layer_rows(model, model.dense, size)
    assert sum(row.parameters for row in rows) == stored_numbers(model)
    return rows


@pytest.mark.slow
def test_yolov3_has_the_numbers_that_darknet_prints() -> None:
    """yolov3.weights is 248,007,048 bytes: a header of 20 and 4 for each number; Darknet prints 65.864 BFLOPs."""
    rows = rows_of("yolofpn", (416, 416))
    assert sum(row.parameters for row in rows) == 62_001_757
    assert 62_001_757 * 4 + 20 == 248_007_048
    assert sum(row.gflop for row in rows) == pytest.approx(65.86, abs=0.005)
    assert sum(row.type == "Convolutional" for row in rows) == 75
    assert sum(row.type == "Residual" for row in rows) == 23
    assert sum(row.type == "Convolutional" for row in rows if row.name.startswith("backbone")) == 52


@pytest.mark.slow
def test_rows_of_the_small_model_by_hand_below_six_gflop() -> None:
    rows = rows_of("yolofpn-tiny", (416, 608))
    first, second = rows[0], rows[1]
    # 3 * 24 * 9 weights and 4 numbers of batch norm for each of 24 filters; 2 * 648 * 208 * 304 operations.
    assert first == LayerRow("backbone.stem", "Convolutional", 24, "3x3/2", "208x304x24", 744, first.gflop)
    assert first.gflop == pytest.approx(2 * 648 * 208 * 304 / 1e9)
    assert (second.filters, second.size, second.output) == (48, "3x3/2", "104x152x48")
    predict = next(row for row in rows if row.name == "head.p3.predict")
    assert (predict.filters, predict.size, predict.output) == (255, "1x1/1", "52x76x255")
    assert predict.parameters == 96 * 255 + 255
    residual = next(row for row in rows if row.type == "Residual")
    assert (residual.parameters, residual.gflop, residual.size, residual.output) == (0, 0, "", "104x152x48")
    assert sum(row.gflop for row in rows) * 416 / 608 < 6  # at 416 x 416


@pytest.mark.slow
def test_a_resnet_of_frozen_norms_by_its_paper() -> None:
    """Table 1 gives ResNet-50 3.8 billion multiplications and additions, its stride on the 1x1; on the 3x3 it is 4.1.

    Each counts two operations here. torchvision publishes 25,557,032 parameters; its classifier of 2,049,000 is not
    here, but running means and variances are: two numbers for each of 26,560 filters.
    """
    with torch.device("meta"):
        model = small_model(small_config({"type": "add"}, backbone={"type": "resnet", "depth": 50, "norm": "frozen"}))
    rows = [row for row in layer_rows(model, model.dense, (224, 224)) if row.name.startswith("backbone")]
    assert sum(row.parameters for row in rows) == 25_557_032 - 2_049_000 + 2 * 26_560
    assert sum(row.gflop for row in rows) == pytest.approx(2 * 4.09, abs=0.02)
    assert sum(row.type == "Residual" for row in rows) == 16
    assert sum(row.type == "Convolutional" for row in rows) == 53
    assert rows[0].parameters == 64 * 147 + 4 * 64
    assert stored_numbers(model.backbone) == sum(row.parameters for row in rows)


def test_a_layer_that_levels_share_counts_once() -> None:
    with torch.device("meta"):
        model = small_model(small_config({"type": "add", "channels": 8, "smooth": "shared"}))
    rows = layer_rows(model, model.dense, (64, 64))
    assert [row.parameters for row in rows if row.name == "neck.smooth"] == [8 * 8 * 9 + 8, 0, 0]
    assert all(row.gflop > 0 for row in rows if row.name == "neck.smooth")
    assert sum(row.parameters for row in rows) == stored_numbers(model)


@pytest.mark.slow
def test_max_pooling_has_a_row() -> None:
    with torch.device("meta"):
        model = small_model(small_config(backbone={"type": "darknet19"}))
    pools = [row for row in layer_rows(model, model.dense, (64, 64)) if row.type == "Maxpool"]
    assert [(row.size, row.output) for row in pools][:2] == [("2x2/2", "32x32x32"), ("2x2/2", "16x16x64")]
    assert len(pools) == 5


def test_the_model_stays_as_it_was() -> None:
    model = small_model(small_config()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer_rows(model, model.dense, (64, 64))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_stored_numbers_count_batch_norm_four_times() -> None:
    assert stored_numbers(nn.BatchNorm2d(7)) == 28
    assert stored_numbers(nn.Conv2d(3, 5, 3)) == 3 * 5 * 9 + 5


def test_the_table_is_aligned_and_ends_with_the_totals() -> None:
    rows = [
        LayerRow("stem", "Convolutional", 32, "3x3/1", "416x416x32", 992, 0.299),
        LayerRow("stem.a.b", "Residual", 1024, "", "8x8x1024", 0, 0.0),
    ]
    lines = format_rows(rows).splitlines()
    assert lines[0].split() == ["name", "type", "filters", "size/stride", "output", "parameters", "GFLOP"]
    assert lines[1].split() == ["stem", "Convolutional", "32", "3x3/1", "416x416x32", "992", "0.299"]
    assert lines[3].split() == ["total", "1", "convolutions", "992", "0.299"]
    assert len({line.index(word) for line, word in zip(lines[:2], ("type", "Conv"), strict=False)}) == 1
    assert len({len(line) for line in lines}) == 1, "the last column is right-aligned"
