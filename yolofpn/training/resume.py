"""A run that is resumed: with the data that it began with, wherever they now lie, and in its own folder or another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yolofpn.config.stored import parse_metadata
from yolofpn.data.dataset import DetectionDataset
from yolofpn.errors import UserError
from yolofpn.files import locked_output, write_errors
from yolofpn.text import command


def refuse_other_data(
    checkpoint: Path, state: Mapping[str, Any], train: DetectionDataset, samples: int, content: Mapping[str, str]
) -> None:
    """A run is resumed with the data that it began with: other classes would be taken for the old ones.

    Args:
        checkpoint: of the run.
        state: what it holds besides tensors.
        train: what it should be resumed with.
        samples: of an epoch, repeats counted.
        content: digests of its splits.

    Raises:
        UserError: classes, numbers of images or of samples, images or labels are not those of the checkpoint.
    """
    names = parse_metadata(state["metadata"], checkpoint).names
    images = len(train) if state["images"] is None else state["images"]
    others = [split for split, digest in content.items() if state["content"].get(split, digest) != digest]
    if names != train.names:
        changed = f"classes {', '.join(names[:10])}; now they are {', '.join(train.names[:10])}"
    elif images != len(train):
        changed = f"{images} training images; now there are {len(train)}"
    elif (before := state["samples"]) not in (None, samples):
        changed = f"{before} samples per epoch; with its labels of now there are {samples}"
    elif others:
        changed = f"other images or labels in {' and '.join(others)} (compared: names, order, sizes and boxes)"
    else:
        return
    run = checkpoint.parent
    raise UserError(
        f"{run}: its data have changed: it began with {changed}\n"
        f"undo that, or begin a new run with its weights: {command('train')} --cfg ... --weights {run}"
    )


def copy_run(run_dir: Path, output: Path, locks: ExitStack) -> None:
    """Copy a run into another folder, where it is resumed; the old one stays as it is.

    Args:
        run_dir: of the run.
        output: does not exist yet, or is empty.
        locks: keeps other runs out of the old folder until it is closed.

    Raises:
        UserError: ``output`` holds something, cannot be written, or another run writes into the old folder.
    """
    with write_errors(output):
        if output.exists() and any(output.iterdir()):
            raise UserError(f"{output}: is not empty: a run is resumed in its own folder or in a new one")
        locks.enter_context(locked_output(run_dir))
        unfinished = output.with_name(output.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            shutil.copytree(run_dir, unfinished, ignore=shutil.ignore_patterns(".lock", "*.part"))
            if output.exists():
                output.rmdir()
            unfinished.replace(output)
        except shutil.Error as error:
            raise OSError(None, str(error.args[0][0][2])) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
