"""Sizes beyond all measure: one line, before any memory is spent, from every command that reads cfgs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import call
from yolofpn.cli import classify, convert, detect, evaluate, export, summary

YOLO = "[yolo]\nanchors=8,8\nclasses=2\n"
HUGE = {
    "width": "width=10000000000000000000\nheight=32\n[convolutional]\nfilters=7\n" + YOLO,
    "input": "width=16384\nheight=16384\n[convolutional]\nfilters=7\nstride=64\n" + YOLO,
    "filters": "width=32\nheight=32\n[convolutional]\nfilters=1000000000000\n" + YOLO,
    "digits": f"width=32\nheight=32\n[convolutional]\nfilters={'9' * 10_000}\n" + YOLO,
    "size": "width=32\nheight=32\n[convolutional]\nfilters=7\nsize=999999\npad=1\n" + YOLO,
    "stride": "width=32\nheight=32\n[convolutional]\nfilters=7\nstride=99999999999999999999\n" + YOLO,
    "padding": "width=32\nheight=32\n[convolutional]\nfilters=7\npadding=999999\n" + YOLO,
    "dilation": "width=32\nheight=32\n[convolutional]\nfilters=7\nsize=3\npad=1\ndilation=99999999999\n" + YOLO,
    "groups": "width=32\nheight=32\n[convolutional]\nfilters=7\ngroups=99999999999\n" + YOLO,
    "upsample": "width=32\nheight=32\n[upsample]\nstride=999999\n[convolutional]\nfilters=7\n" + YOLO,
    "maxpool": "width=32\nheight=32\n[maxpool]\nsize=999999999999\n[convolutional]\nfilters=7\n" + YOLO,
    "connected": "width=32\nheight=32\n[connected]\noutput=1000000\n[softmax]\n",
    "reference": "width=32\nheight=32\n[route]\nlayers=-99999999999999999999\n" + YOLO,
    "implicit": "width=32\nheight=32\n[implicit]\nfilters=1000000\natoms=1000000\n" + YOLO,
    "classes": "width=32\nheight=32\n[convolutional]\nfilters=7\n[yolo]\nanchors=8,8\nclasses=99999999999\n",
    "anchors": "width=32\nheight=32\n[convolutional]\nfilters=7\n[yolo]\nanchors=1e300,8\nclasses=2\n",
    "scale_x_y": "width=32\nheight=32\n[convolutional]\nfilters=7\n" + YOLO + "scale_x_y=1e39\n",
    "beta_nms": "width=32\nheight=32\n[convolutional]\nfilters=7\n" + YOLO + "beta_nms=1e999\n",
    "parameters": "width=32\nheight=32\n" + "[convolutional]\nfilters=9999\nsize=3\npad=1\n" * 3 + YOLO,
}


@pytest.mark.parametrize("name", HUGE)
def test_every_command_refuses_with_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.cfg").write_text("[net]\n" + HUGE[name])
    weights = tmp_path / "x.weights"
    weights.write_bytes(bytes([0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0]) + bytes(8 + 4 * 28))
    commands: list[tuple[Callable[..., int], list[object]]] = [
        (summary.main, [tmp_path / "x.cfg"]),
        (detect.main, ["--weights", weights, "--output", tmp_path / "out"]),
        (evaluate.main, ["--weights", weights, "--data", tmp_path]),
        (convert.main, [weights, tmp_path / "y.safetensors"]),
        (export.main, ["--weights", weights, "--format", "onnx", tmp_path / "y.onnx"]),
        (classify.main, ["x.png", "--weights", weights]),
    ]
    for main, words in commands:
        outcome = call(main, capsys, *words)
        assert outcome.code == 2
        assert "x.cfg: line " in outcome.err and len(outcome.err) < 400


def test_a_backbones_file_spends_no_memory_on_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = (
        "[convolutional]\nfilters=7\n"
        + "[convolutional]\nfilters=7000\nsize=3\npad=1\n" * 2
        + "[convolutional]\nfilters=7\n"
    )
    (tmp_path / "x.cfg").write_text("[net]\nwidth=32\nheight=32\n" + large + YOLO)
    weights = tmp_path / "x.weights"
    weights.write_bytes(bytes([0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0]) + bytes(8 + 4 * 28))
    outcome = call(detect.main, capsys, "--weights", weights)
    assert outcome.code == 2 and "cannot detect" in outcome.err
