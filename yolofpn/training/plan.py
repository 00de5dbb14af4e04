"""What a run is about: flags, config and, for a run that goes on, its checkpoint, made one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolofpn.config import Config, load_config, validate
from yolofpn.errors import UserError
from yolofpn.inference.output_names import next_output_dir
from yolofpn.training.checkpoint import read_checkpoint

RUNS = Path("runs/train")

# Learning a few pictures by heart needs neither variety nor an average over steps, but many steps.
OVERFIT_OVERRIDES = (
    "augment={flip: 0, hue: 0, saturation: 0, brightness: 0, scale: [1, 1], translate: 0, crop: 0, mosaic: 0}",
    "train.optimizer={type: adamw, lr: 1e-3, weight_decay: 0}",
    "train.schedule={type: cosine, final: 0.05}",
    "train.warmup_steps=20",
    "train.ema_decay=0",
    "train.multi_scale=null",
    "train.patience=null",
    "train.nominal_batch_size=1",
)
OVERFIT_EPOCHS = 300


@dataclass(frozen=True)
class Plan:
    """What a run is about, however it was asked for.

    Attributes:
        config: complete; a resumed run has that of its checkpoint.
        run_dir: where everything goes.
        weights: what the model starts from, None for nothing.
        checkpoint: ``last.pt`` of the run that goes on.
        overfit: train and evaluate on so many pictures only.
        device: as ``--device`` names it.
    """

    config: Config
    run_dir: Path
    weights: str | None = None
    checkpoint: Path | None = None
    overfit: int | None = None
    device: str = "auto"


def make_plan(
    *,
    cfg: Path | None = None,
    data: str | None = None,
    weights: str = "none",
    resume: str | None = None,
    overfit: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    img_size: tuple[int, int] | None = None,
    device: str = "auto",
    workers: int | None = None,
    seed: int | None = None,
    output: Path | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """The plan that the flags of train.py ask for.

    Raises:
        UserError: no cfg is given, it is wrong, or the run that should go on cannot.
    """
    flags = {
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "input.size": list(img_size) if img_size else None,
        "train.workers": workers,
        "train.seed": seed,
        "data.source": data,
    }
    if resume is not None:
        return resume_plan(resume, epochs, device)
    if cfg is None:
        raise UserError("name a model with --cfg, such as --cfg cfg/yolofpn-tiny.yaml, or a run with --resume")
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    if overfit is not None:
        given = [*OVERFIT_OVERRIDES, f"train.epochs={OVERFIT_EPOCHS}", f"train.batch_size={min(overfit, 16)}", *given]
    config = load_config(cfg, [*given, *overrides])
    if overfit is not None:
        evaluations = max(1, config.train.epochs // 10)
        config = _changed(config, {"train": {"eval_interval": evaluations}})
    return Plan(
        config,
        output or next_output_dir(RUNS, cfg.stem),
        weights=None if weights == "none" else weights,
        overfit=overfit,
        device=device,
    )


def resume_plan(run: str, epochs: int | None, device: str) -> Plan:
    """The plan of a run that goes on from its last checkpoint.

    Args:
        run: its folder, empty for the newest unfinished one.
        epochs: if given, how long it should now be.
        device: as ``--device`` names it.

    Raises:
        UserError: there is no such run, or it is finished.
    """
    run_dir = Path(run) if run else newest_unfinished_run()
    checkpoint = run_dir / "last.pt"
    content = read_checkpoint(checkpoint)
    config = validate(Config, json.loads(content["config"]), str(checkpoint))
    done = content["progress"]["epoch"]
    if epochs is not None:
        if epochs < config.train.epochs:
            raise UserError(f"--epochs {epochs}: a run that goes on can only become longer than {config.train.epochs}")
        config = _changed(config, {"train": {"epochs": epochs}})
    if done >= config.train.epochs:
        raise UserError(f"{run_dir}: has finished its {done} epochs; --epochs N with a larger N goes on")
    return Plan(config, run_dir, checkpoint=checkpoint, overfit=content["overfit"], device=device)


def newest_unfinished_run() -> Path:
    """The run folder whose last checkpoint was written last, of those that have not finished.

    Raises:
        UserError: there is none.
    """
    checkpoints = sorted(RUNS.glob("*/last.pt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in checkpoints:
        if not read_checkpoint(path)["progress"]["finished"]:
            return path.parent
    raise UserError(f"no unfinished run in {RUNS}: name one with --resume RUN_DIR")


def _changed(config: Config, changes: dict[str, dict[str, Any]]) -> Config:
    tree = config.model_dump()
    for section, values in changes.items():
        tree[section] |= values
    return Config.model_validate(tree)
