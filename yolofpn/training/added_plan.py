"""The settings of a run that adds classes to trained weights: ``train.py --weights OLD --add-classes DATA``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from yolofpn.config import Metadata, load_config
from yolofpn.errors import UserError
from yolofpn.shipped import shipped_configs
from yolofpn.weights import load_weights

RUN_CONFIG = "config.yaml"


def added_settings(weights: str | Path | None, cfg: str | Path | None, data: str) -> tuple[Path | str, list[str]]:
    """Return the YAML file and the overrides of a run that adds classes.

    The network, its input and its thresholds are those of the weights. Everything else is that of the YAML file: the
    given one, that of the run that the weights come from, or the included one of the same network. Batch norm keeps its
    statistics and weights, which the few new images would bend to themselves.

    Args:
        weights: to which classes are added.
        cfg: a YAML file for augmentation and training, if one is given.
        data: the data set of the new classes.

    Raises:
        UserError: no weights are given, they cannot be read or hold no native network, or no YAML file is found.
    """
    if weights is None or weights == "none":
        raise UserError("--add-classes needs the weights to extend: give them with --weights FILE or RUN_DIR")
    metadata = load_weights(weights).metadata
    if metadata.model is None:
        raise UserError(
            f"{weights}: is a Darknet network, which cannot be trained: give a weights file or run folder of yolofpn"
        )
    path = Path(weights)
    origin = str(path.resolve()) if path.exists() else str(weights)
    sections = {"model": metadata.model, "input": metadata.input, "postprocess": metadata.postprocess}
    values: dict[str, Any] = {
        **{name: section.model_dump(mode="json") for name, section in sections.items()},
        "data": {"source": data},
        "train.distill": None,
        "train.minutes": None,
        "train.add_classes": {"weights": origin},
        "train.freeze_norm": True,
    }
    return cfg or _find_cfg(path, metadata), [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _find_cfg(weights: Path, metadata: Metadata) -> Path:
    """The YAML file with which the weights were trained, or that of the same network."""
    own = (weights if weights.is_dir() else weights.parent) / RUN_CONFIG
    if own.is_file():
        return own
    for path in shipped_configs():
        if path.parent.name in ("data", "study") or path.name == "README.md":
            continue
        if load_config(path).model == metadata.model:
            return path
    raise UserError(
        f"{weights}: no {RUN_CONFIG} is beside these weights, and no included cfg has their network: give the settings "
        "of the training with --cfg FILE, such as --cfg cfg/yolofpn-lite.yaml"
    )
