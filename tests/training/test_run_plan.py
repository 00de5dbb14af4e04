"""What the flags of train.py make of a cfg, and of a run that goes on."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small import CFG, write_cfg
from yolofpn.config import Config, Metadata, load_config
from yolofpn.config.stored import dump_metadata
from yolofpn.errors import UserError
from yolofpn.training.checkpoint import FORMAT_VERSION, Progress
from yolofpn.training.distributed import Ranks
from yolofpn.training.run_plan import TrainOptions, make_plan
from yolofpn.training.shared_run import finished_run, plan_for


@pytest.fixture
def cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_cfg(tmp_path, CFG.replace("epochs: 2", "epochs: 3"))


def write_run(run: Path, config: Config, progress: Progress, **more: Any) -> None:
    """A checkpoint without tensors, for plans that do not look at them."""
    run.mkdir(parents=True)
    content = {
        "format_version": FORMAT_VERSION,
        "config": config.model_dump_json(),
        "metadata": dump_metadata(Metadata(model=config.model, names=("a",))),
        "overfit": None,
        "progress": asdict(progress),
        **more,
    }
    torch.save(content, run / "last.pt")


def test_flags_and_overrides_change_the_cfg(cfg: Path) -> None:
    options = TrainOptions(
        cfg=cfg,
        data="sets/data.yaml",
        epochs=7,
        batch_size=3,
        img_size=(64, 96),
        workers=2,
        seed=5,
        device="cpu",
        overrides=("train.optimizer.lr=0.5", "data.root=here"),
    )
    plan = make_plan(options)
    train = plan.config.train
    assert (train.epochs, train.batch_size, train.workers, train.seed, train.optimizer.lr) == (7, 3, 2, 5, 0.5)
    assert plan.config.input.size == (64, 96)
    assert plan.config.data is not None
    assert plan.config.data.source == str(cfg.parent / "sets" / "data.yaml")
    assert plan.config.data.root == str(cfg.parent / "here")
    assert (plan.device, plan.name, plan.output, plan.weights, plan.checkpoint) == ("cpu", "small", None, "auto", None)


def test_what_is_not_given_is_the_cfgs(cfg: Path) -> None:
    plan = make_plan(TrainOptions(cfg=cfg))
    assert plan.config == load_config(cfg)
    assert plan.device == "auto"
    assert make_plan(TrainOptions(cfg=cfg, weights="none")).weights is None
    assert make_plan(TrainOptions(cfg=cfg, weights="x.weights")).weights == "x.weights"


def test_what_the_cfg_itself_fixes_stays_known(cfg: Path) -> None:
    config = make_plan(TrainOptions(cfg=cfg, overfit=4)).config
    assert "norm_eps" not in config.model.model_fields_set
    assert "size" in config.input.model_fields_set and "mean" not in config.input.model_fields_set


def test_overfit_learns_by_heart(cfg: Path) -> None:
    cfg.write_text(cfg.read_text() + "  repeat_thresh: 0.1\n")
    assert make_plan(TrainOptions(cfg=cfg)).config.train.repeat_thresh == 0.1
    plan = make_plan(TrainOptions(cfg=cfg, overfit=4))
    assert plan.config.train.repeat_thresh == 0
    train, augment = plan.config.train, plan.config.augment
    assert plan.overfit == 4
    assert (train.batch_size, train.nominal_batch_size, train.ema_decay, train.patience) == (4, 1, 0, None)
    assert train.eval_interval == train.epochs // 10
    switched_off = {augment.flip, augment.vertical_flip, augment.hue, augment.saturation, augment.brightness}
    assert switched_off | {augment.translate, augment.crop, augment.mosaic, augment.mixup} == {0}
    assert augment.scale == (1, 1)
    plan = make_plan(TrainOptions(cfg=cfg, overfit=40, epochs=5, overrides=("train.ema_decay=0.5",)))
    assert (plan.config.train.batch_size, plan.config.train.epochs, plan.config.train.ema_decay) == (16, 5, 0.5)
    assert plan.config.train.eval_interval == 1
    plan = make_plan(TrainOptions(cfg=cfg, overfit=40, overrides=("train.eval_interval=7",)))
    assert plan.config.train.eval_interval == 7


def test_no_cfg(cfg: Path) -> None:
    with pytest.raises(UserError, match="model"):
        make_plan(TrainOptions())


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"cfg": Path("small.yaml")}, "--cfg"),
        ({"weights": "none"}, "--weights"),
        ({"overfit": 2}, "--overfit"),
        ({"dry_run": True}, "--dry-run"),
        ({"batch_size": 2}, "--batch-size"),
        ({"img_size": (64, 64)}, "--img-size"),
        ({"depth": "12"}, "--depth"),
        ({"seed": 0}, "--seed"),
        ({"overrides": ("data.root=x", "train.seed=2")}, "train.seed=2"),
        ({"overrides": ("data.voc_corners=cvat",)}, "data.voc_corners=cvat"),
    ],
)
def test_a_run_that_goes_on_takes_no_other_flag(cfg: Path, given: dict[str, Any], flag: str) -> None:
    write_run(cfg.parent / "run", load_config(cfg), Progress(epoch=1))
    with pytest.raises(UserError, match=f"^{flag} cannot be given with --resume"):
        make_plan(TrainOptions(resume="run", **given))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"batch_size": 99}, "train.batch_size"),
        ({"seed": 7}, "train.seed"),
        ({"overrides": ("train.optimizer.lr=5",)}, "train.optimizer.lr"),
        ({"overrides": ("train.multi_scale={lowest: 32, highest: 64}",)}, "train.multi_scale"),
        ({"overrides": ("train.epochs=9",)}, "train.epochs"),
        ({"weights": "none"}, "--weights"),
        ({"overfit": 2}, "--overfit"),
    ],
)
def test_auto_resume_ignores_no_flag(cfg: Path, given: dict[str, Any], key: str) -> None:
    options = begin(cfg, finished="overrides" in given)
    with pytest.raises(UserError) as refused:
        finished_run(replace(options, **given), Ranks())
    assert f" {key} " in str(refused.value)


def begin(cfg: Path, *, finished: bool) -> TrainOptions:
    """A run that ``--auto-resume`` resumes, and its flags."""
    options = TrainOptions(cfg=cfg, data="here", output="run")
    plan = make_plan(options)
    write_run(cfg.parent / "run", plan.config, Progress(epoch=3, finished=finished), asked=plan.asked)
    return replace(options, auto_resume=True)


def test_auto_resume_takes_what_may_change(cfg: Path) -> None:
    options = begin(cfg, finished=True)
    assert finished_run(options, Ranks()) == Progress(epoch=3, finished=True)
    moved = replace(options, data="there", workers=1, device="cpu", epochs=8)
    assert finished_run(moved, Ranks()) is None
    assert plan_for(moved, Ranks()).config.train.epochs == 8


def test_a_run_goes_on_as_it_began(cfg: Path) -> None:
    config = load_config(cfg, ["train.seed=9"])
    write_run(cfg.parent / "run", config, Progress(epoch=1), device="cpu", overfit=3)
    plan = make_plan(TrainOptions(resume="run"))
    assert plan.config == config
    assert make_plan(TrainOptions(resume="run/last.pt")) == plan
    assert (plan.checkpoint, plan.output, plan.device, plan.overfit) == (Path("run/last.pt"), Path("run"), "cpu", 3)


def test_epochs_can_only_grow(cfg: Path) -> None:
    write_run(cfg.parent / "run", load_config(cfg), Progress(epoch=1))
    assert make_plan(TrainOptions(resume="run", epochs=9)).config.train.epochs == 9
    assert make_plan(TrainOptions(resume="run", epochs=3)).config.train.epochs == 3
    with pytest.raises(UserError, match="can only become longer than 3"):
        make_plan(TrainOptions(resume="run", epochs=2))


@pytest.mark.parametrize(("epoch", "reason"), [(3, "after 3 epochs;"), (2, "after 2 epochs, as its AP rose no more;")])
def test_a_finished_run_needs_more_epochs(cfg: Path, epoch: int, reason: str) -> None:
    write_run(cfg.parent / "run", load_config(cfg), Progress(epoch=epoch, finished=True))
    with pytest.raises(UserError, match=f"{reason} --epochs N above 3 extends it"):
        make_plan(TrainOptions(resume="run"))
    assert make_plan(TrainOptions(resume="run", epochs=4)).config.train.epochs == 4


def test_resume_alone_takes_the_newest_unfinished_run(cfg: Path) -> None:
    runs = cfg.parent / "runs" / "train"
    config = load_config(cfg)
    for age, (name, finished) in enumerate([("a", False), ("b", True), ("c", False), ("d", False)]):
        write_run(runs / name, config, Progress(epoch=1, finished=finished))
        os.utime(runs / name / "last.pt", (1e9 - age, 1e9 - age))
    (runs / "a" / "last.pt").write_bytes(b"damaged")
    os.utime(runs / "a" / "last.pt", (1e9, 1e9))
    assert make_plan(TrainOptions(resume="")).output == Path("runs/train/c")


def test_nothing_to_resume(cfg: Path) -> None:
    with pytest.raises(UserError, match="unfinished"):
        make_plan(TrainOptions(resume=""))
    with pytest.raises(UserError, match="checkpoint"):
        make_plan(TrainOptions(resume="nowhere"))
    (cfg.parent / "empty").mkdir()
    with pytest.raises(UserError, match="before"):
        make_plan(TrainOptions(resume="empty"))
    (cfg.parent / "empty" / "last.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="checkpoint"):
        make_plan(TrainOptions(resume="empty"))
