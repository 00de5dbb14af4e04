"""Whole runs from the command: what they leave behind and what they say."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.once import made_once
from tests.training.small import CFG, make_dark_rare, write_cfg, write_images
from yolofpn.cli import detect, evaluate
from yolofpn.cli.train import main
from yolofpn.config import load_config
from yolofpn.training.checkpoint import read_checkpoint
from yolofpn.training.distributed import Ranks
from yolofpn.training.logger import read_metrics
from yolofpn.training.run_plan import TrainOptions, make_plan
from yolofpn.training.setup import set_up
from yolofpn.weights import load_weights

pytestmark = pytest.mark.slow

FLAGS = ["--cfg", "small.yaml", "--data", "data/data.yaml", "--device", "cpu"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_images(tmp_path / "data", 4)
    write_cfg(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TWO_STEPS = "train.nominal_batch_size=2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch of ``TWO_STEPS`` on the data of ``files``; for reading only: its data are gone."""

    def make(folder: Path) -> None:
        data, cfg = write_images(folder / "data", 4), write_cfg(folder)
        flags = ["--cfg", str(cfg), "--data", str(data), "--device", "cpu", "--epochs", "1", TWO_STEPS]
        assert main([*flags, "--output", str(folder / "run")]) == 0

    return made_once(tmp_path_factory, "trained", make) / "run"


@pytest.mark.usefixtures("drawn_plots")
def test_a_run_folder_tells_its_story(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--cfg", "a b.yaml"])
    assert main([*FLAGS, "--epochs", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    run = Path("runs/train/small-1")
    assert said[:3] == [
        f"data: yolo data set in {files / 'data'}; splits: train, val",
        "train: 4 images, 8 boxes, 2 classes",
        "val: 5 images, 10 boxes, 2 classes",
    ]
    assert re.match(r"training: 0.1 M parameters, 2 epochs of 2 batches of 2 in 1 step, cpu float32; runs/", said[4])
    assert [line[:10] for line in said[5:7]] == ["epoch 1/2:", "epoch 2/2:"]

    options = TrainOptions(cfg=Path("small.yaml"), data="data/data.yaml", epochs=2)
    assert load_config(run / "config.yaml") == make_plan(options).config
    assert (run / "command.txt").read_text() == "python train.py --cfg 'a b.yaml'\n"
    assert [row["epoch"] for row in read_metrics(run)] == ["1", "2"]
    loaded = load_weights(run)
    assert loaded.metadata.names == ("bright", "dark")
    assert list((run / "events").iterdir())
    plots = {path.name for path in (run / "plots").iterdir()}
    curves = {"losses.png", "AP.png", "precision_recall.png", "f1.png", "confusion.png", "labels.png"}
    assert plots == curves | {"train_batch.jpg", "val_batch.jpg"}
    for path in (run / "plots").iterdir():
        image = cv2.imread(str(path))
        assert image is not None and image.std() > 5, path

    best = read_checkpoint(run / "best.pt")
    averaged = {name: tensor for name, tensor in best["ema"].items() if "tracked" not in name}
    kept = loaded.detector.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in averaged.items())
    assert not all(torch.equal(tensor, best["model"][name]) for name, tensor in averaged.items())


def test_the_last_lines_can_be_pasted(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert main([*FLAGS, "--output", "my run", "--epochs", "1", f"data.root={files / 'data'}"]) == 0
    best, *commands = capsys.readouterr().out.splitlines()[-4:]
    assert re.match(r"best: AP \d\.\d{3} at epoch 1: 'my run'/weights.safetensors$", best)
    mains = {"detect.py": detect.main, "evaluate.py": evaluate.main, "train.py": main}
    assert [shlex.split(command)[:2] for command in commands] == [["python", script] for script in mains]
    for command in commands:
        _, script, *arguments = shlex.split(command)
        assert mains[script](arguments) == 0, command
    said = capsys.readouterr().out
    assert "5 images" in said
    assert "epoch 2/2:" in said  # --resume with twice the epochs
    assert (files / "my run" / "command.txt").read_text().count("\n") == 2


def test_a_dry_run_trains_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "data" / "labels" / "train" / "train3.txt").write_text("0 0.5 0.5 0 0.25\n")
    assert main([*FLAGS, "--dry-run", "--output", "dry"]) == 0
    said = capsys.readouterr()
    report = (files / "dry" / "dry_run.txt").read_text()
    assert report in said.out and said.err == ""
    for part in (
        "head.p5.predict",
        "anchors: best possible recall",
        "memory: about 0.0",
        "zero-area box (1):",
        "4 images: 2 batches of 2, 1 step per epoch, 2 epochs",
    ):
        assert part in report
    assert {path.name for path in (files / "dry").iterdir()} == {"config.yaml", "command.txt", "dry_run.txt", "plots"}
    assert {path.name for path in (files / "dry" / "plots").iterdir()} == {"labels.png", "train_batch.jpg"}


def test_images_of_a_rare_class_come_more_often(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {path: path.read_text() for path in (files / "data" / "labels" / "train").iterdir()}
    make_dark_rare(files / "data")
    flags = [*FLAGS, "train.repeat_thresh=1", "--epochs", "1", "--output"]  # of 4 images 1: sqrt(1 * 4) = 2
    repeats = (
        "repeats: 5 samples per epoch of 4 images; 1 of 2 classes in less than 100 % of them "
        "(train.repeat_thresh): dark x2.00"
    )
    assert main([*flags, "dry", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    start = said.index(repeats)
    assert said[start + 1].startswith("4 images: 3 batches of 2, 2 steps per epoch, 1 epoch")
    assert said.count(repeats) == 1 and repeats in (files / "dry" / "dry_run.txt").read_text()

    assert main([*flags, "run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "1 epoch of 3 batches of 2 in 2 steps" in said[said.index(repeats) + 1]
    assert read_metrics(files / "run")[0]["step"] == "2"

    for path, text in labels.items():  # as many images, but dark is in all of them
        path.write_text(text)
    assert main(["--resume", "run", "--epochs", "2"]) == 2
    changed = "it began with 5 samples per epoch; with its labels of now there are 4"
    assert changed in capsys.readouterr().err


def test_overfit_learns_its_images(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quickly = ["--epochs", "20", "train.optimizer.lr=0.02"]
    assert main([*FLAGS, "--overfit", "2", *quickly, "--output", "run"]) == 0
    said = capsys.readouterr().out
    found = re.findall(r"^overfit: AP (\d\.\d{3}) AP50 (\d\.\d{3})$", said, re.MULTILINE)
    assert len(found) == 1
    assert "2 images with objects" in said
    assert float(found[0][1]) > 0.5
    assert len([row for row in read_metrics(files / "run") if row["AP"]]) == 10


@pytest.mark.parametrize("more", [[], ["--overfit", "2"]])
def test_training_needs_objects(files: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for text, reason in (("", "0 boxes"), ("0 320 240 50 60\n", "4 x box outside the image")):
        for path in (files / "data" / "labels" / "train").iterdir():
            path.write_text(text)
        assert main([*FLAGS, *more]) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert "no training image has an object to learn" in first and reason in second
    assert not (files / "runs").exists()


def test_a_validation_split_without_objects_is_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "--dry-run"]) == 0
    assert [path.name for path in Path("runs/train").iterdir()] == ["small-dry-run-1"]  # the training will be number 1
    assert "no object" not in capsys.readouterr().out
    for path in (files / "data" / "labels" / "val").iterdir():
        path.write_text("")
    assert main([*FLAGS, "--dry-run"]) == 0
    assert "warning: val has no object, so AP stays -1" in capsys.readouterr().out


def test_a_run_does_not_go_on_with_other_data(files: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained, files / "run")
    data, image = files / "data" / "data.yaml", files / "data" / "images" / "train" / "train3.png"
    described, pixels = data.read_text(), image.read_bytes()
    longer = ["--resume", "run", "--data", "data/data.yaml", "--epochs", "2"]
    for names, now in (("dark, bright", "dark, bright"), ("bright, dark, gray", "bright, dark, gray")):
        data.write_text(described.replace("bright, dark", names))
        assert main(longer) == 2
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"error: run: its data have changed: it began with classes bright, dark; now they are {now}"
        assert "--weights run" in second
    data.write_text(described)
    image.unlink()
    assert main(longer) == 2
    assert "it began with 4 training images; now there are 3" in capsys.readouterr().err
    image.write_bytes(pixels)
    assert main(longer) == 0


def test_absent_data_is_two_lines(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "data.root=nowhere"]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 2 and "nowhere" in captured.err and "data.root=DIR" in captured.err
    assert not (files / "runs").exists()


def test_no_data_set_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "small.yaml"]) == 2
    assert "no data set to train on: give one with --data" in capsys.readouterr().err


@pytest.mark.usefixtures("files")
def test_a_frozen_backbone_stays_as_it_came(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--weights", str(trained)]
    arguments = [*given, "--epochs", "1", "--output", "second", "train.freeze=[backbone]"]
    assert main([*FLAGS, *arguments, "train.ema_decay=0"]) == 0
    assert f"tensors taken from {trained}, 0 in part: 2 of 2 classes are known, by" in capsys.readouterr().out
    first, second = (load_weights(run).detector.state_dict() for run in (trained, "second"))
    moved = {name for name, tensor in first.items() if not torch.equal(tensor, second[name]) and "tracked" not in name}
    assert moved and not any(name.startswith("backbone.") for name in moved)
    assert "head.p4.predict.weight" in moved and "head.p5.conv.norm.running_mean" in moved
    assert main([*FLAGS, *given, "train.freeze=[backbone, neck, head]"]) == 2
    assert "nothing is left to learn" in capsys.readouterr().err


def test_freezing_without_weights_is_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "--dry-run", "train.freeze=[backbone]"]) == 0
    assert "train.freeze: ignored" in capsys.readouterr().out
    assert main([*FLAGS, "train.freeze=[body]"]) == 2
    assert "train.freeze: the model has no part 'body'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("postprocess.score_thresh=[0.1, 0.2, 0.3]", "postprocess.score_thresh: 3 values for 2 classes"),
        ("input.size=[64, 80]", "image size 64x80 is not a multiple of 32"),
        ("train.multi_scale={lowest: 64, highest: 80, step: 8}", "72x72 is not a multiple of 32"),
        ("train.epochs=0", "train.epochs"),
    ],
)
def test_configs_that_cannot_train(
    files: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main([*FLAGS, override]) == 2
    assert message in capsys.readouterr().err
    assert not (files / "runs").exists()


def test_bad_anchors_are_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cfg(
        files, CFG.replace("[[[16, 16], [24, 24]], [[32, 32], [48, 48]]]", "[[[2, 2], [3, 3]], [[4, 4], [5, 5]]]")
    )
    assert main([*FLAGS, "--dry-run"]) == 0
    assert "warning: the anchors fit this data badly" in capsys.readouterr().out


def test_unreadable_images_do_not_stop_a_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = files / "data" / "images" / "train" / "train1.png"
    bad.write_bytes(bad.read_bytes()[:300])
    assert main([*FLAGS, "--epochs", "1", "--output", "run"]) == 0
    assert "train1.png" in capsys.readouterr().err


def test_held_out_images_are_listed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = files / "data" / "data.yaml"
    data.write_text(data.read_text().replace("  val: {images: images/val}\n", ""))
    assert main([*FLAGS, "--epochs", "1", "--output", "run"]) == 0
    assert "are held out" in capsys.readouterr().out
    held_out = (files / "run" / "val.txt").read_text().splitlines()
    assert held_out and all(Path(path).is_file() for path in held_out)


def test_a_named_folder_begins_anew(files: Path) -> None:
    run = files / "run"
    run.mkdir()
    for name in ("last.pt", "best.pt", "weights.safetensors", "bad_batch.txt"):
        (run / name).write_text("of another run")
    (run / "notes.txt").write_text("mine")
    assert main([*FLAGS, "--epochs", "1", "--output", "run", "train.eval_interval=5"]) == 0
    assert (run / "notes.txt").read_text() == "mine"
    assert not (run / "bad_batch.txt").exists()
    assert read_checkpoint(run / "last.pt")["progress"]["finished"]


def test_an_unwritable_folder(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "file").write_text("")
    assert main([*FLAGS, "--output", "file/run"]) == 2
    assert "file/run: cannot be written" in capsys.readouterr().err


def test_bf16_and_channels_last_learn_too(files: Path) -> None:
    arguments = ["--epochs", "2", TWO_STEPS, "train.precision=bf16", "train.channels_last=true", "--output", "run"]
    assert main([*FLAGS, *arguments]) == 0
    losses = [float(row["loss"]) for row in read_metrics(files / "run")]
    assert np.isfinite(losses).all() and losses[1] < losses[0]
    state = read_checkpoint(files / "run" / "last.pt")["model"]
    assert {tensor.dtype for name, tensor in state.items() if "tracked" not in name} == {torch.float32}


def test_half_precision_is_measured_in_float32(files: Path) -> None:
    """As evaluate.py does with the flags of the last lines, so that both say the same."""
    plan = make_plan(TrainOptions(cfg=Path("small.yaml"), data="data/data.yaml", overrides=("train.precision=bf16",)))
    setup = set_up(plan, torch.device("cpu"), Ranks(), print)
    assert (setup.dtype, setup.validation.dtype) == (torch.bfloat16, torch.float32)


def test_a_compiled_network_learns_the_same(files: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is captured and run; building C++ kernels of it, which takes minutes, is torch's own affair."""
    compiled, compile_function = [], torch.compile

    def compile_for_eager(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(function)
        return compile_function(function, backend="eager")

    monkeypatch.setattr("yolofpn.training.build_trainer.torch.compile", compile_for_eager)
    assert main([*FLAGS, "--epochs", "1", TWO_STEPS, "train.compile=true", "--output", "compiled"]) == 0
    assert len(compiled) == 1
    runs = trained, files / "compiled"
    plain, same = (float(read_metrics(run)[0]["loss"]) for run in runs)
    assert same == pytest.approx(plain, rel=1e-4)
    keys = [read_checkpoint(run / "last.pt")["model"].keys() for run in runs]
    assert keys[0] == keys[1]
