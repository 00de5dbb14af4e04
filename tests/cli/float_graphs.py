"""Exported graphs that know neither batches nor bytes: what the tests of their runtimes share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.commands import call
from tests.once import made_once
from tests.runtimes.small import NAMES
from tests.tiny_detector import GREEN, RED, quarters
from yolofpn import load_detector
from yolofpn.cli.detect import main as detect
from yolofpn.cli.export import main as export
from yolofpn.structures import Image


def exported_graph(weights: Path, factory: pytest.TempPathFactory, key: str, suffix: str) -> Path:
    """Of ``small_detector``; for reading only."""

    def make(folder: Path) -> None:
        assert export(["--weights", str(weights), "--format", key, str(folder / f"small{suffix}")]) == 0

    return made_once(factory, key, make) / f"small{suffix}"


def exported_layouts(
    weights: Path, factory: pytest.TempPathFactory, key: str, suffix: str, words: Mapping[str, Sequence[str]]
) -> dict[str, Path]:
    """Of the detector of colours, decoded, for other programs; by name, each with its flags; for reading only."""

    def make(folder: Path) -> None:
        for name, own in words.items():
            common = ["--weights", str(weights), "--format", key, "--layout", "decoded"]
            assert export([*common, *own, str(folder / f"{name}{suffix}")]) == 0

    folder = made_once(factory, f"{key}-layouts", make)
    return {name: folder / f"{name}{suffix}" for name in words}


def spots(seed: int) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(20, axis=0).repeat(25, axis=1))


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def require_what_the_weights_find(graph: Path, weights: Path, key: str) -> None:
    found, own = load_detector(graph), load_detector(weights, backend="torch", precision="fp32")
    assert (found.backend.name, found.names, found.img_size, found.resize) == (key, NAMES, (64, 96), "letterbox")
    images, total = [spots(seed) for seed in range(4)], 0
    for batch_size in (1, 3):
        for one, other in zip(found(images, batch_size=batch_size), own(images, batch_size=batch_size), strict=True):
            assert one.labels.tolist() == other.labels.tolist()
            torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=0.1)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-3)
            total += len(one)
    assert total > 10


def require_boxes_and_class_scores(output: NDArray[Any], graph: Path) -> None:
    """``output`` [4 + C, N] is that of a program which knows nothing but the layout, for red beside green."""
    assert output.shape == (6, 4)  # four cells with one anchor
    np.testing.assert_allclose(output[:4, 0], [16, 16, 32, 32], atol=1e-2)  # the top left cell: cx, cy, w, h
    np.testing.assert_allclose(output[4:, 0], [0.9999, 0], atol=1e-3)  # red
    np.testing.assert_allclose(output[4:, 1], [0, 0.9999], atol=1e-3)  # green: row by row
    np.testing.assert_allclose(output[4:, 2:], 0, atol=1e-3)
    assert (graph.parent / "labels.txt").read_text().splitlines() == ["red", "potted plant"]
    boxes = load_detector(graph)(quarters(RED, GREEN, height=64, width=64)).boxes
    np.testing.assert_allclose(sorted(boxes.tolist()), [[0, 0, 32, 32], [32, 0, 64, 32]], atol=0.01)


def require_detection_without(
    modules: Sequence[str], graph: Path, key: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``detect.py`` gives the same lines where these cannot be imported."""
    cv2.imwrite(str(folder / "a.png"), spots(0))
    words = ["detect", str(folder / "a.png"), "--weights", str(graph), "--output", "-"]
    missing = "".join(f"sys.modules[{module!r}] = None\n" for module in modules)
    program = f"import sys\n{missing}from yolofpn.__main__ import main\nmain({words})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and f"{key} fp32" in done.stderr, done.stderr
    expected = call(detect, capsys, *words[1:])
    assert done.stdout == expected.out and len(json.loads(done.stdout)["detections"]) > 3
