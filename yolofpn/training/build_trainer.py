"""Builds the learner, with its optimiser and EMA, and the trainer of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from yolofpn.config import TrainConfig
from yolofpn.errors import UserError
from yolofpn.models.build import NativeDetector
from yolofpn.models.yolo import YOLO
from yolofpn.training.checkpoint import Progress
from yolofpn.training.distill import with_teacher
from yolofpn.training.distributed import Ranks
from yolofpn.training.ema import ModelEMA
from yolofpn.training.engine import OnEpoch, Trainer
from yolofpn.training.learner import Learner
from yolofpn.training.logger import Logger, default_loggers
from yolofpn.training.optim import build_optimizer
from yolofpn.training.random_state import restore_random_state
from yolofpn.training.setup import Log, Setup
from yolofpn.training.shared_run import checkpoint_of_main
from yolofpn.training.sync_norm import share_norms


def build_trainer(
    setup: Setup, run_dir: Path, loggers: Sequence[Logger] = (), on_epoch: OnEpoch | None = None
) -> Trainer:
    """Everything that learning needs; a run that is resumed has what its checkpoint holds.

    Args:
        setup: the run.
        run_dir: its folder.
        loggers: receive its scalars beside the default ones; they and ``on_epoch`` are those of the main process.
        on_epoch: see ``Trainer``.

    Raises:
        UserError: the checkpoint cannot be read, or every parameter is frozen.
    """
    learner = build_learner(setup)
    progress = Progress()
    if setup.plan.checkpoint is not None:
        progress = restore(learner, checkpoint_of_main(setup.plan.checkpoint, setup.ranks), setup.ranks)
    elif setup.ranks.rank:  # what each process draws for its own images
        torch.manual_seed(setup.config.train.seed + setup.ranks.rank)
    return Trainer(
        setup=setup,
        learner=learner,
        run_dir=run_dir,
        progress=progress,
        loggers=default_loggers() if setup.ranks.is_main else [],
        user_loggers=loggers if setup.ranks.is_main else [],
        on_epoch=on_epoch if setup.ranks.is_main else None,
    )


def build_learner(setup: Setup) -> Learner[NativeDetector]:
    """The model with its average, optimiser and scaler.

    Raises:
        UserError: every parameter is frozen.
    """
    settings, model = setup.config.train, setup.model
    ema = ModelEMA(model, settings.ema_decay, settings.ema_steps) if settings.ema_decay else None
    if settings.compile:
        model.dense = torch.compile(model.dense)  # type: ignore[method-assign]
    try:
        optimizer = build_optimizer(model, settings.optimizer)
    except ValueError as error:
        raise UserError(f"train.freeze: {error}: nothing is left to learn") from None
    return Learner(
        model=model,
        network=as_network(_taught(setup), settings, setup.device, setup.ranks, setup.say),
        ema=ema,
        optimizer=optimizer,
        scaler=GradScaler(setup.device.type, enabled=setup.dtype == torch.float16),
        device=setup.device,
        dtype=setup.dtype,
        channels_last=settings.channels_last,
        clip_norm=settings.clip_norm,
    )


def _taught(setup: Setup) -> nn.Module:
    """Return the module that computes the losses: the model, or the model with its teacher or its old self."""
    distill, metadata = setup.config.train.distill, setup.metadata
    if setup.old is not None:
        assert isinstance(setup.model, YOLO)  # as the old detector, whose network it has
        return setup.old.training(setup.model, setup.config)
    if distill is None:
        return setup.model
    return with_teacher(setup.model, metadata.names, metadata.category_ids, distill.teacher, distill.weight)


def restore(learner: Learner[NativeDetector], state: Mapping[str, Any], ranks: Ranks) -> Progress:
    """Restore ``learner`` and the random state from a checkpoint; return the progress of its run."""
    try:
        learner.restore(state)
        restore_random_state(state["rng"], ranks.rank, learner.device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise UserError(f"the checkpoint does not fit its own run ({reason}): it is damaged") from None
    progress = Progress(**state["progress"])
    if progress.finished:  # a run that becomes longer has its patience back
        progress.worse_evaluations = 0
    return progress


def as_network(model: nn.Module, settings: TrainConfig, device: torch.device, ranks: Ranks, say: Log) -> nn.Module:
    """Return the module that computes the losses, wrapped by DDP if there are several processes."""
    if ranks.world_size == 1:
        return model
    if settings.sync_batch_norm and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif settings.sync_batch_norm:
        share_norms(model)
    elif not settings.freeze_norm:
        say(
            "warning: batch norm's statistics are those of each process's own images "
            "(train.sync_batch_norm=true shares them)"
        )
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
