"""One training run: from options to a trainer, and what is said before and after."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from yolofpn.config import Config, Metadata, TrainConfig, dump_config
from yolofpn.data.dataset import DetectionDataset
from yolofpn.data.layouts import open_data
from yolofpn.data.loader import Loader
from yolofpn.data.sampler import EvalBatchSampler, TrainBatchSampler, multi_scale_sizes
from yolofpn.data.samples import EvaluationSamples
from yolofpn.data.training_samples import TrainingSamples
from yolofpn.data.transforms import Augmentation
from yolofpn.errors import UserError
from yolofpn.evaluation.evaluate import collect
from yolofpn.evaluation.metrics import DetectionMetrics, Metrics
from yolofpn.hardware import choose_device, choose_dtype, default_workers
from yolofpn.models.build import build_model
from yolofpn.models.yolo import YOLO
from yolofpn.training.checkpoint import Learner, Progress, read_checkpoint
from yolofpn.training.distributed import Ranks, from_main, gather, join_ranks
from yolofpn.training.ema import ModelEMA
from yolofpn.training.engine import Trainer
from yolofpn.training.logger import RunLog
from yolofpn.training.optim import build_optimizer, freeze
from yolofpn.training.plan import Plan
from yolofpn.training.start import load_starting_weights

Say = Callable[[str], None]
LOSS_NAMES = ("loss_box", "loss_objectness", "loss_class")


@dataclass(frozen=True)
class Splits:
    """What is learnt from and what is measured on; both have the same classes."""

    train: DetectionDataset
    val: DetectionDataset
    notes: tuple[str, ...]
    held_out: bool


def train(plan: Plan) -> int:
    """Train; the exit code: 0 done, 1 interrupted.

    Raises:
        UserError: data, weights or config do not allow it.
    """
    device = choose_device(plan.device)
    with join_ranks(device) as ranks:
        say = print if ranks.is_main else _silence
        splits = open_splits(plan)
        for note in splits.notes:
            say(note)
        if ranks.is_main:
            write_run_files(plan, splits)
        trainer = build_trainer(plan, splits, device, ranks, say)
        finished = trainer.run()
        if trainer.log:
            trainer.log.close()
            say(closing_lines(plan, trainer.progress, finished=finished))
        return 0 if finished else 1


def open_splits(plan: Plan) -> Splits:
    """The train and val splits of the plan's data set.

    Raises:
        UserError: no data set is named, or it cannot be used.
    """
    data = plan.config.data
    if data is None:
        raise UserError("no data set to train on: name one with --data, such as --data cfg/data/voc.yaml")
    source = open_data(data.source, Path(data.root) if data.root else None)
    train_set = source.load("train")
    if plan.overfit is not None:
        with_objects = [i for i in range(len(train_set)) if not bool(train_set.target(i).ignore.all())]
        train_set = train_set.subset(with_objects[: plan.overfit])
        return Splits(train_set, train_set, tuple(source.notes), held_out=False)
    return Splits(train_set, source.load("val"), tuple(source.notes), source.holds_out)


def build_trainer(plan: Plan, splits: Splits, device: torch.device, ranks: Ranks, say: Say) -> Trainer:
    """Everything that a run needs, put together."""
    config, settings = plan.config, plan.config.train
    torch.manual_seed(settings.seed)
    model, metadata = start_model(plan, splits.train, say)
    model.to(device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        freeze(model, settings.freeze, norm=settings.freeze_norm)
    except ValueError as error:
        raise UserError(str(error)) from None
    ema = ModelEMA(model, settings.ema_decay, settings.ema_steps) if settings.ema_decay else None
    dtype = choose_dtype(settings.precision, device)
    scaler = GradScaler(device.type, enabled=dtype == torch.float16)
    learner = Learner(model, ema, build_optimizer(model, settings.optimizer), scaler)
    progress = Progress()
    if plan.checkpoint is not None:
        state = read_checkpoint(plan.checkpoint)
        learner.restore(state)
        progress = Progress(**state["progress"])
    workers = default_workers(device) if settings.workers is None else settings.workers
    return Trainer(
        learner=learner,
        network=as_network(model, settings, device, ranks, say),
        config=settings,
        loader=training_loader(config, splits.train, ranks, workers, pin_memory=device.type == "cuda"),
        evaluate=Evaluation(config, splits.val, device, dtype, ranks, workers),
        run_dir=plan.run_dir,
        log=RunLog(plan.run_dir, LOSS_NAMES, progress.epoch) if ranks.is_main else None,
        metadata=metadata,
        config_json=config.model_dump_json(),
        overfit=plan.overfit,
        paths=splits.train.paths,
        device=device,
        dtype=dtype,
        ranks=ranks,
        progress=progress,
        say=say,
    )


def start_model(plan: Plan, dataset: DetectionDataset, say: Say) -> tuple[YOLO, Metadata]:
    """The model for the data set's classes, with what the starting weights give it, and what its weights will say."""
    config = plan.config
    metadata = Metadata(
        model=config.model,
        input=config.input,
        postprocess=config.postprocess,
        names=dataset.names,
        category_ids=dataset.category_ids,
    )
    try:
        model = build_model(config.model, len(dataset.names), config.input, config.postprocess)
    except ValueError as error:
        raise UserError(str(error)) from None
    if plan.weights is not None and plan.checkpoint is None:
        for line in load_starting_weights(model, metadata, plan.weights):
            say(line)
    return model, metadata


def as_network(model: YOLO, settings: TrainConfig, device: torch.device, ranks: Ranks, say: Say) -> nn.Module:
    """What is called for the losses: the model itself, or wrapped for several processes."""
    if settings.compile:
        model.dense = torch.compile(model.dense)  # type: ignore[method-assign]
    if ranks.world_size == 1:
        return model
    if settings.sync_batch_norm and device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif not settings.freeze_norm:
        say("batch norm's statistics are those of each process's own pictures (train.sync_batch_norm needs GPUs)")
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def training_loader(
    config: Config, dataset: DetectionDataset, ranks: Ranks, workers: int, *, pin_memory: bool
) -> Loader:
    """Shuffled, varied batches."""
    settings, scales = config.train, config.train.multi_scale
    values = config.augment.model_dump()
    combine_epochs = max(0, settings.epochs - values.pop("close_epochs"))
    samples = TrainingSamples(
        dataset,
        Augmentation(**values),
        seed=settings.seed,
        resize=config.input.resize,
        combine_epochs=combine_epochs,
    )
    sizes = multi_scale_sizes(**scales.model_dump()) if scales else (config.input.size,)
    sampler = TrainBatchSampler(
        len(dataset), settings.batch_size, sizes, seed=settings.seed, rank=ranks.rank, world_size=ranks.world_size
    )
    return Loader(samples, sampler, workers=workers, pin_memory=pin_memory)


class Evaluation:
    """Measures a model on the validation split, over all processes; each of them gets the result."""

    def __init__(
        self,
        config: Config,
        dataset: DetectionDataset,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks,
        workers: int,
    ) -> None:
        sampler = EvalBatchSampler(
            len(dataset), config.train.batch_size, config.input.size, rank=ranks.rank, world_size=ranks.world_size
        )
        samples = EvaluationSamples(dataset, config.input.resize)
        self.loader = Loader(samples, sampler, workers=workers, pin_memory=device.type == "cuda")
        self.names = dataset.names
        self.device = device
        self.dtype = dtype

    def __call__(self, model: nn.Module) -> Metrics:
        """The metrics of ``model`` on the whole split."""
        assert isinstance(model, YOLO)
        own = DetectionMetrics(self.names)
        collect(model, self.loader, own, device=self.device, dtype=self.dtype)
        everything = DetectionMetrics(self.names)
        for state in gather(own.state()):
            everything.merge(state)
        metrics: Metrics = from_main(everything.compute())
        return metrics


def write_run_files(plan: Plan, splits: Splits) -> None:
    """What the run was asked for, and which pictures it holds out."""
    plan.run_dir.mkdir(parents=True, exist_ok=True)
    dump_config(plan.config, plan.run_dir / "config.yaml")
    (plan.run_dir / "command.txt").write_text(shlex.join(sys.argv) + "\n")
    if splits.held_out:
        (plan.run_dir / "val.txt").write_text("\n".join(splits.val.paths) + "\n")


def closing_lines(plan: Plan, progress: Progress, *, finished: bool) -> str:
    """The best result and the commands that come next, ready to paste."""
    run = shlex.quote(str(plan.run_dir))
    best = f"best: AP {progress.best_ap:.3f} at epoch {progress.best_epoch}, {run}/weights.safetensors"
    commands = [f"python detect.py --weights {run} SOURCE", f"python evaluate.py --weights {run} --data DATA"]
    if not finished:
        commands = [f"python train.py --resume {run}"]
    return "\n".join([best if progress.best_epoch >= 0 else "not evaluated yet", *commands])


def _silence(line: str) -> None:
    """Of several processes only the first one prints."""
