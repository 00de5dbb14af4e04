from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yolofpn.cli.train import main
from yolofpn.config import Metadata
from yolofpn.errors import UserError
from yolofpn.models.build import build_yolo
from yolofpn.models.yolo import YOLO
from yolofpn.structures import Target
from yolofpn.training.distill import Distillation, with_teacher
from yolofpn.weights import save_weights

from .small import small_config, write_cfg, write_images

pytestmark = pytest.mark.slow

NAMES = ("bright", "dark")


def model(seed: int) -> YOLO:
    torch.manual_seed(seed)
    config = small_config()
    return build_yolo(config.model, 2, config.input, config.postprocess)


def no_objects() -> Target:
    nothing = torch.zeros(0)
    return Target(torch.zeros(0, 4), nothing.long(), nothing.bool(), nothing, 0)


def test_a_student_equal_to_its_teacher_has_only_the_entropy_left() -> None:
    student = model(0).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        for name in ("p4", "p5"):
            predict = student.get_submodule(f"head.{name}.predict")
            assert isinstance(predict, torch.nn.Conv2d) and predict.bias is not None
            predict.bias.view(2, 7)[:, 4] = 2.0  # sure enough to teach boxes
    taught = Distillation(student, student, ("p4", "p5"), (0, 1), 1.0)
    same = taught(images, [no_objects()])["loss_teacher"]
    other = Distillation(model(1).eval(), student, ("p4", "p5"), (0, 1), 1.0)
    assert same < other(images, [no_objects()])["loss_teacher"]
    same.backward()
    gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4  # a minimum


def test_the_teachers_part_fades() -> None:
    taught = Distillation(model(0).eval(), model(1).eval(), ("p4", "p5"), (0, 1), 2.0)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    values = []
    for progress in (0.0, 0.5):
        taught.progress = progress
        values.append(taught(images, [no_objects()])["loss_teacher"].item())
    assert values[1] == pytest.approx(values[0] / 2)
    taught.progress = 1.0
    assert "loss_teacher" not in taught(images, [no_objects()])


def test_classes_are_matched_by_name_and_levels_by_anchors(tmp_path: Path) -> None:
    teacher, config = model(1), small_config()
    path = tmp_path / "teacher.safetensors"
    save_weights(path, teacher.state_dict(), Metadata(model=config.model, input=config.input, names=("dark", "other")))
    taught = with_teacher(model(0), NAMES, (), str(path), 1.0)
    assert (taught.theirs, taught.ours) == ([0], [1])
    assert taught.levels == ("p4", "p5")
    assert not any("teacher" in name for name, _ in taught.named_parameters())
    with pytest.raises(UserError):
        with_teacher(model(0), ("a", "b", "c"), (), str(path), 1.0)


def test_training_with_a_teacher(tmp_path: Path) -> None:
    config = small_config()
    metadata = Metadata(model=config.model, input=config.input, names=NAMES)
    save_weights(tmp_path / "teacher.safetensors", model(1).state_dict(), metadata)
    data, run = write_images(tmp_path / "data", 4), tmp_path / "run"
    distill = f"train.distill={{teacher: {tmp_path / 'teacher.safetensors'}}}"
    command = ["--cfg", str(write_cfg(tmp_path)), "--data", str(data), "--output", str(run), distill]
    assert main([*command, "--epochs", "1"]) == 0
    assert "loss_teacher" in (run / "metrics.csv").read_text()
