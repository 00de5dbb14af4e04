"""Sets up a run from its plan: data set, model with initial weights, and batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from yolofpn.config import Config, Metadata
from yolofpn.config.stored import dump_metadata
from yolofpn.data.loader import Loader, Padding
from yolofpn.data.repeats import repeat_factors
from yolofpn.data.sampler import TrainBatchSampler
from yolofpn.devices import default_workers, precision_name
from yolofpn.errors import UserError
from yolofpn.models.build import NativeDetector, build_model
from yolofpn.training.distributed import Ranks, from_main
from yolofpn.training.old_detector import OldDetector, open_old_detector
from yolofpn.training.optim import freeze
from yolofpn.training.precision import training_dtype
from yolofpn.training.resume import refuse_other_data
from yolofpn.training.run_plan import Plan, change_train, with_epochs_for
from yolofpn.training.shared_run import facts_of_main
from yolofpn.training.splits import Splits, anchor_warning, open_splits, training_loader, training_sizes
from yolofpn.training.start import adapt_config, read_starting_weights, take_over
from yolofpn.training.start_auto import AUTO, choose_start
from yolofpn.training.start_bands import fit_to_bands, let_guess_learn
from yolofpn.training.start_low_rank import merge_kernels, split_kernels
from yolofpn.training.validation import Validation

Log = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """A run: what it learns from, with what, and where. Nothing in it changes but the model and the length of the run.

    Attributes:
        plan: what was asked for, with a config that the data and the initial weights have completed.
        splits: the images.
        model: on its device, with its initial weights.
        loader: training batches.
        validation: measures a model on the validation split.
        device: where the network runs.
        dtype: of its arithmetic.
        ranks: which of how many processes this is.
        say: prints a line, in the main process.
        old: the detector to which the run adds classes, if it adds any.
    """

    plan: Plan
    splits: Splits
    model: NativeDetector
    loader: Loader[TrainBatchSampler]
    validation: Validation
    device: torch.device
    dtype: torch.dtype
    ranks: Ranks
    say: Log
    old: OldDetector | None = None

    @property
    def config(self) -> Config:
        """The config of the run."""
        return self.plan.config

    def with_config(self, config: Config) -> Setup:
        """Return the run with another config, for example another number of epochs."""
        return replace(self, plan=replace(self.plan, config=config))

    @cached_property
    def metadata(self) -> Metadata:
        """Return the metadata stored in the weights of the run."""
        config, train = self.config, self.splits.train
        return Metadata(
            model=config.model,
            input=config.input,
            postprocess=config.postprocess,
            names=train.names,
            category_ids=train.category_ids,
        )

    @cached_property
    def stored(self) -> dict[str, Any]:
        """Return the facts about the run that checkpoints store."""
        return {
            "metadata": dump_metadata(self.metadata),
            "config": json.dumps(self.config.model_dump(mode="json")),  # paths may hold bytes that are not UTF-8
            "asked": self.plan.asked,
            "overfit": self.plan.overfit,
            "device": self.plan.device,
            "images": len(self.splits.train),
            "samples": self.loader.sampler.samples_per_epoch,
            "content": self.splits.digests,
        }


def set_up(plan: Plan, device: torch.device, ranks: Ranks, say: Log) -> Setup:
    """Open the images and build the model; what was found is said.

    Raises:
        UserError: data, weights or config do not allow it.
    """
    splits = open_splits(plan.config, plan.overfit)
    for note in splits.notes:
        say(note)
    old = open_old_detector(plan, splits)
    if old is not None:
        splits, plan = old.relabel(splits), replace(plan, config=old.with_thresholds(plan.config))
        for line in old.classes.describe():
            say(line)
    if plan.checkpoint is not None:
        samples = repeat_factors(splits.train, plan.config.train.repeat_thresh).samples_per_epoch
        facts = facts_of_main(plan.checkpoint, ranks)
        refuse_other_data(plan.checkpoint, facts, splits.train, samples, splits.digests)
    if warning := anchor_warning(plan.config, splits.train):
        say(f"warning: {warning}")
    if plan.checkpoint is None:
        plan = replace(plan, config=with_epochs_for(plan.config, len(splits.train)))
    torch.manual_seed(plan.config.train.seed)
    config, model = start_model(plan, splits, say)
    splits = splits.read_for(config.input)  # which the initial weights may have set
    settings = config.train
    try:
        freeze(model, settings.freeze, norm=settings.freeze_norm)
    except ValueError as error:
        raise UserError(str(error)) from None
    model.to(device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype, measured = from_main(training_dtype(settings.precision, model, device) if ranks.is_main else None)
    if measured is not None:
        say(measured)
        config = change_train(config, precision=precision_name(dtype))  # a resumed run has the same
    workers = default_workers(device) if settings.workers is None else settings.workers
    padding = Padding.for_network(config.input.mean, model.size_divisor)
    loader = training_loader(
        config, splits.train, ranks, workers=workers, pin_memory=device.type == "cuda", padding=padding
    )
    # In float32, so that evaluate.py gives the same numbers: bfloat16 costs a few thousandths of AP.
    validation = Validation(config, splits.val, device, torch.float32, ranks, workers, padding)
    if old is not None:
        found = validation.collect(old.detector.to(device))
        val, count = old.with_old_objects(splits.val, found)
        say(f"val: {count} boxes that the old weights find stand for the labels of the kept classes, which val lacks")
        validation = Validation(config, val, device, torch.float32, ranks, workers, padding)
    return Setup(replace(plan, config=config), splits, model, loader, validation, device, dtype, ranks, say, old)


def start_model(plan: Plan, splits: Splits, say: Log) -> tuple[Config, NativeDetector]:
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
        start = fit_to_bands(read_starting_weights(weights, config.model), config.input)
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
        start, lines = split_kernels(
            merge_kernels(start, model), model, dataset, config.input.size, config.input.resize
        )
        config, more = let_guess_learn(config, start, model)
        for line in (*lines, *more):
            say(line)
        say(take_over(model, dataset.names, dataset.category_ids, start))
    elif plan.checkpoint is None:
        config = _without_random_freezing(config, model, say)
    return config, model


def _without_random_freezing(config: Config, model: NativeDetector, say: Log) -> Config:
    """The config of a run from random initialisation: parts that could not learn would stay random for ever."""
    parts = {name.partition(".")[0] for name, _ in model.named_parameters()}
    frozen = [prefix for prefix in config.train.freeze if prefix.partition(".")[0] in parts]
    if not frozen or len(frozen) < len(config.train.freeze):
        return config  # nothing is frozen, or a prefix is wrong, which is said where it is used
    say(f"train.freeze: ignored: {', '.join(frozen)} would stay random")
    return change_train(config, freeze=())
