import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolofpn.config import DarknetHeader
from yolofpn.darknet.weights_file import (
    WeightLayer,
    WeightLayers,
    count_numbers,
    open_weights,
    read_layers,
    write_layers,
)
from yolofpn.errors import UserError

HEADER = struct.pack("<iiiQ", 0, 2, 5, 1 << 40)


def make_layers() -> WeightLayers:
    """By hand: 4 * 2 + 12 = 20 numbers, 3 + 6 = 9 and 4 * 2 + 6 = 14."""
    return [
        WeightLayer(nn.Conv2d(6, 2, 1, bias=False), nn.BatchNorm2d(2)),
        WeightLayer(nn.Conv2d(2, 3, 1)),
        WeightLayer(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2)),
    ]


def file_of(count: int, header: bytes = HEADER) -> bytes:
    """A file that holds the numbers 0, 1, 2, ..."""
    return header + np.arange(count, dtype="<f4").tobytes()


def test_reads_in_darknet_order() -> None:
    layers = make_layers()
    result = read_layers(file_of(43), layers)
    assert result.complete
    assert (result.loaded, result.total) == (3, 3)
    assert result.header == DarknetHeader(major=0, minor=2, revision=5, seen=1 << 40)
    (conv, norm), (biased, _), (linear, linear_norm) = layers
    assert norm is not None
    assert linear_norm is not None
    # Convolution: biases, scales, means, variances, kernel.
    assert norm.bias.tolist() == [0, 1]
    assert norm.weight.tolist() == [2, 3]
    assert norm.running_mean is not None and norm.running_mean.tolist() == [4, 5]
    assert norm.running_var is not None and norm.running_var.tolist() == [6, 7]
    assert conv.weight.flatten().tolist() == list(range(8, 20))
    # Without batch normalisation: biases, kernel.
    assert biased.bias is not None and biased.bias.tolist() == [20, 21, 22]
    assert biased.weight.flatten().tolist() == list(range(23, 29))
    # Connected: biases, kernel [outputs, inputs], scales, means, variances.
    assert linear_norm.bias.tolist() == [29, 30]
    assert linear.weight.tolist() == [[31, 32, 33], [34, 35, 36]]
    assert linear_norm.weight.tolist() == [37, 38]
    assert linear_norm.running_mean is not None and linear_norm.running_mean.tolist() == [39, 40]
    assert linear_norm.running_var is not None and linear_norm.running_var.tolist() == [41, 42]


def test_counts_numbers() -> None:
    assert [count_numbers([layer]) for layer in make_layers()] == [20, 9, 14]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (struct.pack("<iiiI", 0, 1, 0, 1234), DarknetHeader(major=0, minor=1, revision=0, seen=1234)),
        (struct.pack("<iiiQ", 0, 2, 0, 32013312), DarknetHeader(major=0, minor=2, revision=0, seen=32013312)),
        (struct.pack("<iiiQ", 1, 0, 0, 7), DarknetHeader(major=1, minor=0, revision=0, seen=7)),
    ],
    ids=["four bytes of seen", "eight bytes of seen", "version 1.0"],
)
def test_header_forms_come_back_byte_for_byte(header: bytes, expected: DarknetHeader, tmp_path: Path) -> None:
    data = file_of(43, header)
    layers = make_layers()
    result = read_layers(data, layers)
    assert result.header == expected
    assert result.complete
    write_layers(tmp_path / "copy.weights", layers, result.header)
    assert (tmp_path / "copy.weights").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["copy.weights"]


def test_a_file_may_end_after_any_layer(tmp_path: Path) -> None:
    layers = make_layers()
    before = layers[2].conv.weight.clone()
    (tmp_path / "backbone.conv.2").write_bytes(file_of(29))
    result = read_layers(tmp_path / "backbone.conv.2", layers)
    assert (result.loaded, result.total, result.complete) == (2, 3, False)
    assert layers[1].conv.weight.flatten()[-1] == 28
    assert torch.equal(layers[2].conv.weight, before)
    write_layers(tmp_path / "again", layers[:2], result.header)
    assert (tmp_path / "again").read_bytes() == file_of(29)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file_of(42), "holds 188 bytes, this network needs 192: truncated, or for another cfg"),
        (file_of(43)[:-1], "holds 191 bytes, this network needs 192: truncated"),
        (file_of(44), "holds 196 bytes, this network needs 192: too long, or for another cfg"),
        (file_of(43) + b"x", "holds 193 bytes, this network needs 192: too long"),
        (file_of(0), "holds 20 bytes, this network needs 192: truncated"),
        (HEADER[:18], "holds 18 bytes, not even the header of Darknet weights: truncated"),
        (HEADER[:5], "holds 5 bytes, not even the header of Darknet weights: truncated"),
        (b"", r"is empty \(0 bytes\)"),
        (b"PK\x03\x04" + bytes(300), "is a PyTorch file"),
        (b"\x80\x02}q\x00" + bytes(300), "is a PyTorch file"),
        (b"\x10\0\0\0\0\0\0\0{'a': {}}" + bytes(300), "is a safetensors file"),
        (b"<!DOCTYPE html>\n<html><body>", "is a text, not Darknet weights: '<!DOCTYPE html>"),
        (b"\xff\xd8\xff\xe0" + bytes(300), "does not begin like Darknet weights"),
    ],
)
@pytest.mark.parametrize("as_path", [True, False])
def test_refuses_what_does_not_fit(data: bytes, message: str, as_path: bool, tmp_path: Path) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(data)
    layers = make_layers()
    before = [tensor.clone() for layer in layers for tensor in layer.conv.state_dict().values()]
    with pytest.raises(UserError, match=message) as caught:
        read_layers(path if as_path else data, layers)
    assert str(caught.value).startswith(str(path) if as_path else "weights:")
    after = [tensor for layer in layers for tensor in layer.conv.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_refuses_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="directory"):
        open_weights(tmp_path / "absent.weights")
    with pytest.raises(UserError, match="Is a directory"):
        open_weights(tmp_path)


def test_says_where_it_cannot_write_and_leaves_no_ruin(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="directory"):
        write_layers(tmp_path / "absent" / "my.weights", make_layers())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "my.weights"
    target.write_bytes(b"old")
    target.with_name(".my.weights.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="written"):
        write_layers(target, make_layers())
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["my.weights"]


def test_a_layer_without_bias_and_norm_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="needs a bias"):
        count_numbers([WeightLayer(nn.Conv2d(1, 1, 1, bias=False))])
