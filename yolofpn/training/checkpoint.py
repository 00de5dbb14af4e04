"""Checkpoints: the complete state of a run, written atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from yolofpn.config import StrictModel, validate
from yolofpn.errors import UserError
from yolofpn.fields import NonNegativeFloat, NonNegativeInt
from yolofpn.files import unfinished
from yolofpn.reading import ParseError
from yolofpn.tensor_files import read_archive
from yolofpn.text import command
from yolofpn.training.learner import Learner
from yolofpn.training.random_state import RandomState

FORMAT_VERSION = 1
LAST, BEST = "last.pt", "best.pt"


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        epoch: the epoch that goes on, from 0.
        batch: batches of it that are done.
        step: optimiser steps that are done.
        seconds: of training so far, over all of its parts.
        evaluation_seconds: of measuring so far, likewise.
        best_ap: the best AP so far; -1 before the first evaluation.
        best_epoch: where it was reached.
        worse_evaluations: evaluations since then.
        loss_sums: of the batches of this epoch that are done, by name.
        finished: the run has come to its end.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    best_ap: float = -1.0
    best_epoch: int = -1
    worse_evaluations: int = 0
    loss_sums: dict[str, float] = field(default_factory=dict)
    finished: bool = False


class _PlainProgress(StrictModel):
    """``Progress`` as a checkpoint holds it."""

    epoch: NonNegativeInt
    batch: NonNegativeInt
    step: NonNegativeInt
    seconds: NonNegativeFloat
    evaluation_seconds: NonNegativeFloat = 0.0
    best_ap: float
    best_epoch: int = Field(ge=-1, le=10**9)
    worse_evaluations: NonNegativeInt
    loss_sums: dict[str, float]
    finished: bool


class _PlainContent(StrictModel):
    """The contents of a checkpoint besides tensors.

    Attributes:
        metadata: of the run's weights.
        config: of the run, as JSON.
        overfit: train and evaluate on so many images only.
        device: as asked for: 'auto', or one by name.
        images: how many images it learns from.
        samples: how many an epoch shows, repeats counted.
        content: digests of its data, by split (see ``data/fingerprint.py``).
        asked: what the run was asked for (see ``asked_for.py``).
        progress: how far it has come.
    """

    metadata: str
    config: str
    overfit: NonNegativeInt | None = None
    device: str = "auto"
    images: NonNegativeInt | None = None
    samples: NonNegativeInt | None = None
    content: dict[str, str] = Field(default_factory=dict)
    asked: str = ""
    progress: _PlainProgress


def save_checkpoint(
    path: Path,
    learner: Learner[Any],
    progress: Progress,
    run: Mapping[str, Any],
    random_states: Sequence[RandomState] = (),
) -> None:
    """Write a checkpoint; the file of that name stays until the new one lies on the disk.

    Args:
        path: of the file.
        learner: what has learnt.
        progress: how far the run has come.
        run: what the checkpoint says of the run itself: ``Setup.stored``.
        random_states: of all processes.

    Raises:
        UserError: it cannot be written, as on a full disk; an earlier file is still there.
    """
    content = {
        "format_version": FORMAT_VERSION,
        **run,
        "progress": asdict(progress),
        **learner.state(),
        "rng": list(random_states),
    }
    try:
        with unfinished(path) as part, part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]  # not every OSError has a number
        raise UserError(
            f"{path}: cannot be written ({reason}): make room on the disk\n"
            f"the checkpoint before it is whole: resume with {command('train')} --resume {path.parent}"
        ) from None


def read_checkpoint(path: Path, *, only_look: bool = False) -> dict[str, Any]:
    """Load a checkpoint written by ``save_checkpoint``, without executing code.

    Args:
        path: of the file.
        only_look: leave the tensors on the disk, for a glance at the numbers.

    Raises:
        UserError: it is missing, damaged, or no checkpoint of this program.
    """
    try:
        content = read_archive(path, only_look=only_look)
    except OSError as error:
        raise UserError(f"{path}: no checkpoint to resume from: {error.strerror or error}") from None
    except ParseError as error:
        raise UserError(f"{path}: is damaged or no checkpoint ({error})") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path}: is not a checkpoint of this program")
    plain = {key: value for key, value in content.items() if key in _PlainContent.model_fields}
    plain.setdefault("images", content.get("pictures"))  # the key of earlier versions
    return {**content, **validate(_PlainContent, plain, str(path)).model_dump()}
