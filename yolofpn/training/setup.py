"""From a plan to all that a run works with: pictures, model, starting weights, and the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from yolofpn.config import Config, Metadata, TrainConfig
from yolofpn.data.fingerprint import fingerprint
from yolofpn.data.loader import Loader, Padding
from yolofpn.data.repeats import repeat_factors
from yolofpn.errors import UserError
from yolofpn.hardware import default_workers, precision_name
from yolofpn.models.build import NativeDetector, build_model
from yolofpn.training.checkpoint import Progress, RunFacts, read_checkpoint
from yolofpn.training.distill import with_teacher
from yolofpn.training.distributed import Ranks, from_main
from yolofpn.training.ema import ModelEMA
from yolofpn.training.engine import OnEpoch, Trainer
from yolofpn.training.learner import Learner
from yolofpn.training.logger import Logger, default_loggers
from yolofpn.training.optim import build_optimizer, freeze
from yolofpn.training.plan import Plan, change_train, with_epochs_for
from yolofpn.training.precision import training_dtype
from yolofpn.training.random_state import restore_random_state
from yolofpn.training.resume import refuse_other_data
from yolofpn.training.splits import (
    Splits,
    anchor_warning,
    open_splits,
    training_sampler,
    training_samples,
    training_sizes,
)
from yolofpn.training.start import adapt_config, read_starting_weights, take_over
from yolofpn.training.start_auto import AUTO, choose_start
from yolofpn.training.start_low_rank import split_kernels
from yolofpn.training.validation import Validation

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """What a run works with, before its first step.

    Attributes:
        plan: what was asked for.
        splits: the pictures.
        model: on its device, with the weights that it starts from.
        facts: what the run is; its config has what the starting weights asked for.
        device: where the network runs.
        dtype: of its arithmetic.
        ranks: which of how many processes this is.
        say: prints a line, in the main process.
    """

    plan: Plan
    splits: Splits
    model: NativeDetector
    facts: RunFacts
    device: torch.device
    dtype: torch.dtype
    ranks: Ranks
    say: Say

    @property
    def config(self) -> Config:
        """Of the run."""
        return self.facts.config

    @property
    def workers(self) -> int:
        """Processes that load pictures."""
        workers = self.config.train.workers
        return default_workers(self.device) if workers is None else workers

    @property
    def padding(self) -> Padding:
        """Of images that are smaller than their batch."""
        return Padding.for_network(self.config.input.mean, self.model.size_divisor)

    def validation(self) -> Validation:
        """Measures a model on the validation split.

        In float32, so that evaluate.py gives the same numbers: bfloat16 costs a few thousandths of AP.
        """
        return Validation(
            self.config, self.splits.val, self.device, torch.float32, self.ranks, self.workers, self.padding
        )


def set_up(plan: Plan, device: torch.device, ranks: Ranks, say: Say) -> Setup:
    """Open the pictures and build the model; what was found is said.

    Raises:
        UserError: data, weights or config do not allow it.
    """
    splits = open_splits(plan.config, plan.overfit)
    for note in splits.notes:
        say(note)
    samples = repeat_factors(splits.train, plan.config.train.repeat_thresh).samples_per_epoch
    content = {"train": fingerprint(splits.train), "val": fingerprint(splits.val)}
    if plan.checkpoint is not None:
        refuse_other_data(plan.checkpoint, splits.train, samples, content)
    if warning := anchor_warning(plan.config, splits.train):
        say(f"warning: {warning}")
    if plan.checkpoint is None:
        plan = replace(plan, config=with_epochs_for(plan.config, len(splits.train)))
    torch.manual_seed(plan.config.train.seed)
    config, model = start_model(plan, splits, say)
    settings = config.train
    try:
        freeze(model, settings.freeze, norm=settings.freeze_norm)
    except ValueError as error:
        raise UserError(str(error)) from None
    model.to(device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    metadata = Metadata(
        model=config.model,
        input=config.input,
        postprocess=config.postprocess,
        names=splits.train.names,
        category_ids=splits.train.category_ids,
    )
    dtype, measured = from_main(training_dtype(settings.precision, model, device) if ranks.is_main else None)
    if measured is not None:
        say(measured)
        config = change_train(config, precision=precision_name(dtype))  # a resumed run has the same
    facts = RunFacts(config, metadata, plan.overfit, plan.device, len(splits.train), samples, content)
    return Setup(plan, splits, model, facts, device, dtype, ranks, say)


def start_model(plan: Plan, splits: Splits, say: Say) -> tuple[Config, NativeDetector]:
    """The model for the data set's classes with what the starting weights give it, and the config that fits them.

    Raises:
        UserError: the config describes no model, or the weights do not fit it.
    """
    config, dataset, start, weights = plan.config, splits.train, None, plan.weights
    if plan.checkpoint is not None:
        weights = None
    elif weights == AUTO:
        weights, line = choose_start(config.model)
        say(line)
    if weights is not None:
        start = read_starting_weights(weights, config.model)
        config, lines = adapt_config(config, start)
        for line in (*start.notes, *lines):
            say(line)
    thresholds = config.postprocess.score_thresh
    if isinstance(thresholds, tuple) and len(thresholds) != len(dataset.names):
        raise UserError(f"postprocess.score_thresh: {len(thresholds)} values for {len(dataset.names)} classes")
    try:
        model = build_model(config.model, len(dataset.names), config.input, config.postprocess)
    except ValueError as error:
        raise UserError(str(error)) from None
    fixed_sizes = () if config.input.resize == "shortest-edge" else (config.input.size, *training_sizes(config))
    for height, width in fixed_sizes:
        if height % model.size_divisor or width % model.size_divisor:
            raise UserError(
                f"image size {height}x{width} is not a multiple of {model.size_divisor}, the model's stride"
            )
    if start is not None:
        start, lines = split_kernels(start, model, dataset, config.input.size, config.input.resize)
        for line in lines:
            say(line)
        say(take_over(model, dataset.names, dataset.category_ids, start))
    elif plan.checkpoint is None:
        config = _without_random_freezing(config, model, say)
    return config, model


def _without_random_freezing(config: Config, model: NativeDetector, say: Say) -> Config:
    """The config of a run from random initialisation: parts that could not learn would stay random for ever."""
    parts = {name.partition(".")[0] for name, _ in model.named_parameters()}
    frozen = [prefix for prefix in config.train.freeze if prefix.partition(".")[0] in parts]
    if not frozen or len(frozen) < len(config.train.freeze):
        return config  # nothing is frozen, or a prefix is wrong, which is said where it is used
    say(f"train.freeze: ignored: {', '.join(frozen)} would stay random")
    return change_train(config, freeze=())


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
        progress = restore(learner, read_checkpoint(setup.plan.checkpoint), setup.ranks)
    elif setup.ranks.rank:  # what each process draws for its own pictures
        torch.manual_seed(setup.config.train.seed + setup.ranks.rank)
    sampler = training_sampler(setup.config, setup.splits.train, setup.ranks)
    samples = training_samples(setup.config, setup.splits.train)
    return Trainer(
        learner=learner,
        facts=setup.facts,
        loader=Loader(
            samples, sampler, workers=setup.workers, pin_memory=setup.device.type == "cuda", padding=setup.padding
        ),
        evaluate=setup.validation(),
        run_dir=run_dir,
        loggers=[*default_loggers(), *loggers] if setup.ranks.is_main else [],
        paths=setup.splits.train.paths,
        ranks=setup.ranks,
        progress=progress,
        say=setup.say,
        on_epoch=on_epoch if setup.ranks.is_main else None,
    )


def build_learner(setup: Setup) -> Learner:
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
    """What is called for the losses: the model alone or beside its teacher."""
    distill, metadata = setup.config.train.distill, setup.facts.metadata
    if distill is None:
        return setup.model
    return with_teacher(setup.model, metadata.names, metadata.category_ids, distill.teacher, distill.weight)


def restore(learner: Learner, state: Mapping[str, Any], ranks: Ranks) -> Progress:
    """Give ``learner`` and this process's random numbers what a checkpoint holds; how far its run had come."""
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


def as_network(model: nn.Module, settings: TrainConfig, device: torch.device, ranks: Ranks, say: Say) -> nn.Module:
    """What is called for the losses: the model itself, or wrapped for several processes."""
    if ranks.world_size == 1:
        return model
    if settings.sync_batch_norm and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif not settings.freeze_norm:
        remedy = "train.sync_batch_norm=true shares them" if device.type == "cuda" else "CPUs cannot share them"
        say(f"warning: batch norm's statistics are those of each process's own images ({remedy})")
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
