"""The folder of a run: what it was asked for, what it looks at, and what to do with its result."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack
from pathlib import Path

from yolofpn.config import Config, dump_config
from yolofpn.files import RUN_WEIGHTS, locked_output, write_errors, write_list
from yolofpn.sinks.output_names import next_output_dir
from yolofpn.text import command, typed_command
from yolofpn.training.checkpoint import BEST, LAST, Progress
from yolofpn.training.resume import copy_run
from yolofpn.training.run_plan import RUNS, Plan
from yolofpn.training.splits import Splits


def prepare_run_folder(plan: Plan, config: Config, splits: Splits, locks: ExitStack) -> Path:
    """Make the run's folder and write what it was asked for, and which images it holds out; its path.

    A folder that is named and holds another run begins anew; a run that goes on keeps all that it has.

    Args:
        plan: what was asked for.
        config: of the run.
        splits: its data.
        locks: keeps other runs out of the folder until it is closed.

    Raises:
        UserError: it cannot be written, or another run writes there.
    """
    # The first training of a configuration is its number 1, whatever was tried before.
    kind = "-dry-run" if plan.dry_run else "-overfit" if plan.overfit is not None else ""
    run_dir = plan.output or next_output_dir(RUNS, plan.name + kind)
    if plan.checkpoint is not None and run_dir.resolve() != plan.checkpoint.parent.resolve():
        copy_run(plan.checkpoint.parent, run_dir, locks)
    with write_errors(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        locks.enter_context(locked_output(run_dir))  # before anything of another run is touched
        goes_on = plan.checkpoint is not None
        if not goes_on:
            for name in (LAST, BEST, RUN_WEIGHTS, "bad_batch.txt"):
                (run_dir / name).unlink(missing_ok=True)
        dump_config(config, run_dir / "config.yaml")
        with (run_dir / "command.txt").open("ab" if goes_on else "wb") as file:
            file.write(os.fsencode(typed_command() + "\n"))
    if splits.held_out:
        write_list(run_dir / "val.txt", splits.val.paths)
    return run_dir


def closing_lines(run_dir: Path, config: Config, progress: Progress, example: str | None) -> list[str]:
    """The best result and the commands that come next, ready to paste.

    Args:
        run_dir: of the run.
        config: of the run.
        progress: how far it has come.
        example: an image to detect on; None: the data set has no files of single images.
    """
    run = shlex.quote(str(run_dir))
    lines = []
    if progress.best_epoch >= 0:
        lines.append(f"best: AP {progress.best_ap:.3f} at epoch {progress.best_epoch}: {run}/{RUN_WEIGHTS}")
        proposals = config.data.proposals if config.data is not None else None
        if proposals is None and example is not None:  # with them it cannot detect without
            lines.append(f"{command('detect')} {shlex.quote(example)} --weights {run}")
        if config.data is not None:
            more = f" --proposals {shlex.quote(proposals.val)}" if proposals is not None else ""
            more += f" data.root={shlex.quote(config.data.root)}" if config.data.root else ""
            lines.append(f"{command('evaluate')} --weights {run} --data {shlex.quote(config.data.source)}{more}")
    longer = f" --epochs {2 * config.train.epochs}" if progress.finished else ""
    return [*lines, f"{command('train')} --resume {run}{longer}"]
