"""``train.py --add-classes``: a whole run, its weights, its resumption and its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from yolofpn.cli.evaluate import main as evaluate
from yolofpn.errors import UserError
from yolofpn.evaluation.class_groups import read_class_groups
from yolofpn.training.run_plan import TrainOptions, make_plan
from yolofpn.training.training_run import train
from yolofpn.weights import load_weights

from .small import write_cfg, write_images

pytestmark = pytest.mark.slow

SHORT = ("train.optimizer={type: adamw, lr: 1e-4}", "train.checkpoint_minutes=60")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run ``old`` on bright and dark squares, and the data set ``more``, which calls them dark and gray."""
    folder = tmp_path_factory.mktemp("added")
    cfg, data = write_cfg(folder), write_images(folder / "data", 4)
    more = write_images(folder / "more", 4, seed=1)
    more.write_text(more.read_text().replace("[bright, dark]", "[gray, Dark]"))
    train(TrainOptions(cfg, data, "none", epochs=1, output=folder / "old"))
    return folder


def options(files: Path, output: Path, **changes: object) -> TrainOptions:
    values = {"weights": str(files / "old"), "add_classes": files / "more/data.yaml", "epochs": 2, "output": output}
    return TrainOptions(**values | {"overrides": SHORT} | changes)  # type: ignore[arg-type]


def test_a_run_keeps_rows_and_names_is_resumed_without_the_old_weights_and_reports_groups(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unmoved = options(files, tmp_path / "still", epochs=1, overrides=("train.optimizer={type: sgd, lr: 1e-30}",))
    still = train(unmoved)
    old, new = load_weights(files / "old"), load_weights(still.run_dir)
    assert new.metadata.names == ("bright", "dark", "gray")
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        before, after = old.detector.dense(image), new.detector.dense(image)
    for name, raw in before.items():
        rows = after[name].view(1, 2, 8, *raw.shape[2:])[:, :, :7].reshape(raw.shape)
        assert torch.allclose(rows, raw, atol=1e-5)  # old classes, boxes and objectness answer as before
    assert read_class_groups(still.run_dir) == (("bright", "dark"), ("gray",))

    whole = train(options(files, tmp_path / "whole"))
    copied = tmp_path / "copy of old"
    shutil.copytree(files / "old", copied)
    part = train(options(files, tmp_path / "part", weights=str(copied)), on_epoch=lambda result: result.epoch == 1)
    assert not part.finished
    shutil.rmtree(copied)
    resumed = train(TrainOptions(resume=part.run_dir))
    assert resumed.finished
    capsys.readouterr()
    states = [load_weights(run.run_dir / "last.pt").detector.state_dict() for run in (whole, resumed)]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())

    numbers = tmp_path / "numbers.json"
    command = ["--weights", str(whole.run_dir), "--data", str(files / "data/data.yaml"), "--backend", "torch"]
    assert evaluate([*command, "--json", str(numbers), "--output", str(tmp_path / "evaluated")]) == 0
    groups = json.loads(numbers.read_text())["groups"]
    assert [(group["names"], group["objects"]) for group in groups] == [(["bright", "dark"], 10), (["gray"], 0)]
    assert "of addition 1" in capsys.readouterr().out

    third = write_images(tmp_path / "third", 2, seed=2)
    third.write_text(third.read_text().replace("[bright, dark]", "[round, square]"))
    again = options(files, tmp_path / "again", epochs=1, weights=str(whole.run_dir), add_classes=third)
    assert read_class_groups(train(again).run_dir) == (("bright", "dark"), ("gray",), ("round", "square"))


def test_the_settings_are_those_of_the_old_run_or_of_the_cfg_of_the_same_network(files: Path, tmp_path: Path) -> None:
    plan = make_plan(options(files, tmp_path))
    assert plan.config.train.freeze_norm and plan.config.train.batch_size == 2
    assert plan.config.train.add_classes is not None
    assert plan.config.train.add_classes.weights == str(files / "old")
    default = make_plan(TrainOptions(weights="auto", add_classes=files / "more/data.yaml", img_size=(320, 320)))
    assert default.config.input.size == (320, 320)
    assert default.config.model == load_weights("auto").metadata.model


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": None},
        {"weights": "none"},
        {"data": "data"},
        {"add_classes": "missing"},
        {"overrides": ("train.distill={teacher: auto}",)},
    ],
)
def test_wrong_use_is_an_error(files: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        train(options(files, tmp_path / "run", **changes))


def test_weights_without_settings_need_a_cfg(files: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(files / "old/weights.safetensors", alone)
    with pytest.raises(UserError, match="--cfg"):
        make_plan(options(files, tmp_path, weights=str(alone)))
    assert make_plan(options(files, tmp_path, weights=str(alone), cfg=files / "small.yaml")).name == "alone-added"
