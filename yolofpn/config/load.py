"""Reading YAML: typed, complete, and refused with the place and the remedy when something is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from yolofpn.config.base import StrictModel
from yolofpn.config.model import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.config.training import AugmentConfig, TrainConfig
from yolofpn.errors import UserError

T = TypeVar("T", bound="StrictModel")


class Config(StrictModel):
    """One complete YAML file of ``cfg/``.

    Attributes:
        data: a data YAML, relative to this file, or any other data set that ``--data`` takes.
    """

    model: ModelConfig
    input: InputConfig = InputConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    data: str | None = None
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a model's YAML file, apply ``section.key=value`` overrides, validate every field.

    Raises:
        UserError: the file is missing or no YAML, or keys or values are wrong: all of them in one message, each
            with its path in the file and, for an unknown key, the nearest known one.
    """
    tree = read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    return validate(Config, tree, str(path))


def validate(schema: type[T], tree: Any, origin: str) -> T:  # noqa: ANN401
    """``tree`` as a ``schema``.

    Raises:
        UserError: one line per wrong key or value, each beginning with ``origin``.
    """
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(schema, dict(item)) for item in error.errors()]
        raise UserError("\n".join(f"{origin}: {line}" for line in lines)) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML 1.2 file (``1e-3`` is a number, a repeated key an error) whose top level is a mapping.

    Raises:
        UserError: it is missing, unreadable, no YAML, or no mapping.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}: line {line}: {str(error.problem).splitlines()[0]}") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{path}: {where}not valid YAML: {getattr(error, 'problem', error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, so not a YAML file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give the path of a YAML file, such as cfg/yolofpn.yaml") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected sections such as 'model:', found {type(tree).__name__}")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
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
    node[key] = YAML(typ="safe", pure=True).load(value)


def _explain(schema: type[StrictModel], item: dict[str, Any]) -> str:
    # A discriminated union puts its tag into the location ("model.neck.add.width"): it is no key of the file.
    place = ".".join(str(part) for part in item["loc"] if not _is_tag(part, item["loc"]))
    if item["type"] == "extra_forbidden":
        known = _known_keys(schema)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        return f"{place}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _is_tag(part: Any, location: Iterable[Any]) -> bool:  # noqa: ANN401
    parts = list(location)
    return (
        parts.index(part) > 0
        and parts[parts.index(part) - 1] in {"backbone", "neck", "head", "assigner"}
        and part in _TAGS
    )


_TAGS = {"best_anchor", "simota", "darknet53", "darknet19", "darknet", "concat", "add", "yolo", "faster_rcnn"}


def _known_keys(schema: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    pending: list[Any] = [schema]
    seen: set[Any] = set()
    while pending:
        kind = pending.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys.extend(kind.model_fields)
            pending.extend(info.annotation for info in kind.model_fields.values())
        else:
            pending.extend(getattr(kind, "__args__", ()))
    return keys
