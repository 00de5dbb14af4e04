"""The files of ``cfg/``: a model with its data, augmentation and training."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from yolofpn.config.train_config import AugmentConfig, TrainConfig
from yolofpn.config.validation import read_yaml, validate
from yolofpn.errors import UserError
from yolofpn.fields import StrictModel, VocCorners
from yolofpn.files import replace_file
from yolofpn.models.model_config import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.reading import ParseError
from yolofpn.shipped import find_config


class ProposalFiles(StrictModel):
    """What a head of type fast_rcnn looks at: lists of boxes as ``evaluate.py --save-proposals`` writes them.

    Attributes:
        train: of the images that it learns from.
        val: of the images that it is measured on.
    """

    train: str
    val: str


class DataSection(StrictModel):
    """The data set of a model.

    Attributes:
        source: a data YAML, relative to the file that names it, or any other data set that ``--data`` takes.
        root: the data set's folder, instead of the one that the data YAML names.
        proposals: of each split; relative to the file that names them.
        voc_corners: who wrote VOC's XML, where that cannot be seen; None: what the data YAML says, else how it looks.
    """

    source: str
    root: str | None = None
    voc_corners: VocCorners | None = None
    proposals: ProposalFiles | None = None


class Config(StrictModel):
    """The contents of a complete YAML file of ``cfg/``."""

    model: ModelConfig
    input: InputConfig = InputConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    data: DataSection | None = None
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a model's YAML file, apply ``section.key=value`` overrides, validate every field.

    Args:
        path: the file, or the file name of one that ships in ``cfg/``.
        overrides: applied in this order.

    Raises:
        UserError: the file is missing or not YAML, or keys or values are wrong: one message lists all of them with
            their paths in the file and, for an unknown key, the nearest known one.
    """
    path = find_config(path)
    tree = read_yaml(path)
    _resolve_paths(tree.get("data"), ("source",), path.parent)
    if isinstance(tree.get("data"), dict):
        _resolve_paths(tree["data"].get("proposals"), ("train", "val"), path.parent)
    for override in overrides:
        _apply_override(tree, override)
    return validate(Config, tree, str(path))


def with_data(section: DataSection | None, overrides: Sequence[str]) -> DataSection:
    """A section ``data`` with ``data.key=value`` overrides applied.

    Raises:
        UserError: keys or values are wrong.
    """
    tree: dict[str, Any] = {"data": {} if section is None else section.model_dump()}
    for override in overrides:
        _apply_override(tree, override)
    return validate(DataSection, tree["data"], "data")


def dump_config(config: Config, path: Path) -> None:
    """Write a config that ``load_config`` reads back.

    Raises:
        OSError: it cannot be written.
    """
    from ruamel.yaml import YAML  # not for those who read metadata alone

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    text = StringIO()
    yaml.dump(config.model_dump(mode="json"), text)
    replace_file(path, text.getvalue().encode())


def _resolve_paths(section: object, keys: Sequence[str], folder: Path) -> None:
    """Make those values of a section absolute that are relative to the file's ``folder``."""
    for key in keys:
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str((folder / section[key]).resolve())


def _apply_override(tree: dict[str, Any], override: str) -> None:
    from yolofpn.yaml_text import parse_yaml

    dotted_key, separator, value = override.partition("=")
    if not separator or not dotted_key:
        raise UserError(f"override {override!r} is not of the form section.key=value")
    *sections, key = dotted_key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise UserError(f"override {override!r}: {section!r} is a value, not a section")
        node = child
    try:
        node[key] = parse_yaml(value)
    except ParseError:
        raise UserError(f"override {override!r}: {value!r} is not a valid YAML value") from None
