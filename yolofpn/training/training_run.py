"""Runs a training from its plan, with messages and plots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from yolofpn.devices import choose_device
from yolofpn.evaluation.class_groups import Groups, format_groups, group_metrics
from yolofpn.evaluation.metrics import Metrics
from yolofpn.evaluation.output_files import write_plots
from yolofpn.extras import is_installed, skipped_plots
from yolofpn.files import RUN_WEIGHTS
from yolofpn.text import counted
from yolofpn.training.build_trainer import build_trainer
from yolofpn.training.distributed import from_main, join_ranks, take_from_main
from yolofpn.training.dry_run import dry_run
from yolofpn.training.engine import OnEpoch, Trainer
from yolofpn.training.logger import Logger, read_metrics
from yolofpn.training.rehearsal import TimeBudget, rehearse, schedule_for
from yolofpn.training.run_folder import closing_lines, prepare_run_folder
from yolofpn.training.run_plan import TrainOptions
from yolofpn.training.sample_pages import first_batch, save_train_batch, save_val_batch
from yolofpn.training.setup import Setup, set_up
from yolofpn.training.shared_run import finished_run, plan_for
from yolofpn.training.splits import repeat_lines
from yolofpn.weights import load_weights

PLOTS = "plots"


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run.

    Attributes:
        run_dir: the run folder; ``load_detector`` takes it.
        finished: False if the run was interrupted: ``TrainOptions(resume=str(run_dir))`` resumes it.
        best_ap: the best AP on the validation split, in [0, 1]; -1 if nothing was measured.
        best_epoch: the epoch, from 1, of the weights in ``run_dir``; -1: none yet.
    """

    run_dir: Path
    finished: bool
    best_ap: float = -1.0
    best_epoch: int = -1


def train(options: TrainOptions, *, loggers: Sequence[Logger] = (), on_epoch: OnEpoch | None = None) -> TrainingResult:
    """Train a detector, as ``train.py`` does.

    Args:
        options: the flags of ``train.py``; its ``overrides`` are the words ``section.key=value``.
        loggers: receive the run's scalars, beside ``metrics.csv`` and TensorBoard.
        on_epoch: called with the ``EpochResult`` after each epoch, when the checkpoint has been written. If it returns
            True, the run stops as by Ctrl-C: it can be resumed.

    Raises:
        UserError: data, weights or config are invalid, a loss is not finite, or memory or disk space is exhausted.
    """
    started = time.monotonic()
    with ExitStack() as locks, join_ranks() as ranks:
        say = partial(print, flush=True) if ranks.is_main else _silence
        if (done := finished_run(options, ranks)) is not None:
            say(f"{options.output}: is finished after {counted(done.epoch, 'epoch')}")
            return TrainingResult(Path(options.output or ""), True, done.best_ap, done.best_epoch)
        plan = plan_for(options, ranks)
        setup = set_up(plan, ranks.take_device(choose_device(plan.device)), ranks, say)
        run_dir: Path = from_main(
            prepare_run_folder(plan, setup.config, setup.splits, locks) if ranks.is_main else None
        )
        if ranks.is_main and plan.checkpoint is None:
            if setup.old is not None:
                setup.old.keep_in(run_dir)
            draw_beginning(setup, run_dir / PLOTS)
        if plan.dry_run:
            if ranks.is_main:
                dry_run(setup, run_dir)
            return TrainingResult(run_dir, finished=True)
        trainer = build_trainer(setup, run_dir, loggers, on_epoch)
        if setup.config.train.minutes is not None:
            keep_time(trainer, setup.config.train.minutes, started)
        for line in (*repeat_lines(setup.config, setup.splits.train), opening_line(setup, trainer)):
            say(line)
        finished = trainer.run(close=partial(close_run, setup, trainer))
        return TrainingResult(run_dir, finished, trainer.progress.best_ap, trainer.progress.best_epoch)


def close_run(setup: Setup, trainer: Trainer) -> None:
    """After the training: measure the best weights of a finished run, draw curves, print the last lines."""
    if trainer.progress.finished:
        metrics = measure_best(setup, trainer)
        if setup.old is not None:
            setup.say(describe_groups(metrics, setup.old.groups))
        if setup.plan.overfit is not None:
            setup.say(f"overfit: AP {metrics.values['AP']:.3f} AP50 {metrics.values['AP50']:.3f}")
    if setup.ranks.is_main:
        draw_curves(trainer.run_dir)
        example = setup.splits.val.first_file()
        for line in closing_lines(trainer.run_dir, trainer.setup.config, trainer.progress, example):
            setup.say(line)


def describe_groups(metrics: Metrics, groups: Groups) -> str:
    """Format the metrics of old and new classes; those of the kept ones are the agreement with the old weights."""
    return (
        f"{format_groups(group_metrics(metrics, groups))}\n"
        "of classes without labels in val: the agreement with the old weights; evaluate.py measures them on data that "
        "label them, also by group"
    )


def keep_time(trainer: Trainer, minutes: float, started: float) -> None:
    """Set the number of epochs that fits into the requested minutes."""
    progress = trainer.progress
    spent = progress.seconds + progress.evaluation_seconds
    trainer.budget = TimeBudget(60 * minutes, started - spent)
    if progress.step:
        return
    pace = rehearse(trainer.learner, trainer.setup.loader)
    batches_of_val = len(trainer.setup.splits.val) / trainer.config.batch_size
    trainer.budget.evaluation_seconds = batches_of_val * pace.seconds_per_batch / 3
    epochs, batches = from_main(schedule_for(trainer.budget, pace, trainer.sampler.batches_per_epoch))
    trainer.set_epochs(
        epochs,
        epoch_batches=batches or trainer.config.epoch_batches,
        eval_interval=-(-epochs // trainer.budget.evaluations),
    )
    images_per_second = trainer.config.batch_size / pace.seconds_per_batch
    part = f" of {counted(batches, 'batch')} each" if batches else ""
    trainer.say(
        f"time: {images_per_second:.1f} images/s: {counted(epochs, 'epoch')}{part} fit into {minutes:g} minutes"
    )


def opening_line(setup: Setup, trainer: Trainer) -> str:
    """Print what is started or resumed, and the run folder."""
    parameters = sum(parameter.numel() for parameter in setup.model.parameters())
    batches = trainer.sampler.batches_per_epoch * setup.ranks.world_size
    precision = str(setup.dtype).removeprefix("torch.")
    progress = trainer.progress
    goes_on = f"; resuming in epoch {progress.epoch + 1} at step {progress.step}" if progress.step else ""
    return (
        f"training: {parameters / 1e6:.1f} M parameters, {counted(trainer.config.epochs, 'epoch')} of "
        f"{counted(batches, 'batch')} of {setup.config.train.batch_size} in "
        f"{counted(trainer.steps_per_epoch, 'step')}, {setup.device} {precision}; {trainer.run_dir}{goes_on}"
    )


def draw_beginning(setup: Setup, folder: Path) -> None:
    """Plot class counts and the first training batch.

    Raises:
        UserError: the folder cannot be written.
    """
    splits = {"train": setup.splits.train, "val": setup.splits.val}
    if setup.plan.overfit is not None:
        del splits["val"]
    for line in skipped_plots("matplotlib", "tensorboard"):
        setup.say(line)
    if is_installed("matplotlib"):
        from yolofpn.training.training_plots import plot_labels

        plot_labels(folder / "labels.png", splits)
    batch, shown = first_batch(setup.loader), setup.config.input.bands
    save_train_batch(folder / "train_batch.jpg", batch, setup.splits.train.names, shown)


def measure_best(setup: Setup, trainer: Trainer) -> Metrics:
    """Evaluate the weights that the run leaves behind once more, from the file, and draw what they find.

    Raises:
        UserError: the file is gone.
    """
    model = trainer.learner.averaged
    if setup.ranks.is_main:
        model.load_state_dict(load_weights(trainer.run_dir / RUN_WEIGHTS).detector.state_dict())
    take_from_main(model)
    model.eval()
    found = setup.validation.collect(model)
    metrics = found.compute()
    if setup.ranks.is_main:
        folder = trainer.run_dir / PLOTS
        write_plots(folder, metrics, found.table())
        save_val_batch(folder / "val_batch.jpg", model, setup.splits.val, setup.config, setup.device, setup.dtype)
    return metrics


def draw_curves(run_dir: Path) -> None:
    """Losses and AP over the epochs so far."""
    if is_installed("matplotlib"):
        from yolofpn.training.training_plots import plot_average_precision, plot_losses

        rows = read_metrics(run_dir)
        plot_losses(run_dir / PLOTS / "losses.png", rows)
        plot_average_precision(run_dir / PLOTS / "AP.png", rows)


def _silence(line: str) -> None:
    """Print in the main process only."""
