"""``train.py --depth`` and what becomes of it: images of 12 bits in 16 are learned from as the same in 8 bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from safetensors.torch import load_file

from tests.commands import call
from tests.training.small import write_cfg, write_images
from yolofpn.cli import evaluate, show, train
from yolofpn.weights import load_weights


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small data set in grey, of 8 bits in ``bytes``, and of 12 bits in 16 in ``deep``."""
    monkeypatch.chdir(tmp_path)
    write_cfg(tmp_path)
    write_images(tmp_path / "bytes", count=2)
    shutil.copytree(tmp_path / "bytes", tmp_path / "deep")
    for path in (tmp_path / "bytes").rglob("*.png"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        cv2.imwrite(str(path), grey)
        cv2.imwrite(str(tmp_path / "deep" / path.relative_to(tmp_path / "bytes")), grey.astype("uint16") << 4)
    return tmp_path


@pytest.mark.slow
def test_depth_of_a_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("bytes", ()), ("deep", ("--depth", "12"))):
        flags = ["--cfg", "small.yaml", "--data", f"{name}/data.yaml", "--output", name + "-run", "--device", "cpu"]
        assert call(train.main, capsys, *flags, *more, "train.epochs=1").code == 0
    plain, deep = (load_file(files / f"{name}-run" / "weights.safetensors") for name in ("bytes", "deep"))
    assert all(tensor.equal(deep[name]) for name, tensor in plain.items())
    assert load_weights(files / "deep-run").metadata.input.depth == "12"

    def found(data: str, weights: str, *more: str) -> list[dict[str, Any]]:
        flags = [
            "--data",
            f"{data}/data.yaml",
            "--weights",
            weights,
            "--output",
            "out",
            "--score-thresh",
            "1e-6",
            "--workers",
            "0",
        ]
        assert call(evaluate.main, capsys, *flags, *more).code == 0
        boxes: list[dict[str, Any]] = json.loads(Path("out/detections.coco.json").read_text())
        return boxes

    torch = ("--backend", "torch")
    right = found("bytes", "bytes-run", *torch)
    assert len(right) > 5
    assert found("deep", "deep-run", *torch) == right  # the weights say so
    assert found("deep", "bytes-run", "--depth", "12", *torch) == right
    assert found("deep", "bytes-run", *torch) != right


@pytest.mark.slow
def test_cfg_and_page(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--cfg", "small.yaml", "--data", "deep/data.yaml", "--dry-run", "--device", "cpu", "--output", "run"]
    assert call(train.main, capsys, *flags, "input.depth=12").code == 0
    assert "depth: '12'" in Path("run/config.yaml").read_text()
    assert call(train.main, capsys, *flags, "input.depth=13").code == 2
    pages = []
    for data, depth in (("bytes", "auto"), ("deep", "12"), ("deep", "auto")):
        assert call(show.main, capsys, f"{data}/data.yaml", "--depth", depth, "--output", "page.png").code == 0
        pages.append(Path("page.png").read_bytes())
    assert pages[0] == pages[1] != pages[2]
